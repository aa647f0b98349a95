"""The pages of a running project. A client of the HTTP API in the same process: what a page shows is what the API says."""

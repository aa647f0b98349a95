"""The stream benchmark's Penstock project, and what opens it in a folder of its own."""

# MLflow's server with a driver for PostgreSQL, should its database move there.
FROM python:3.12.8-slim-bookworm
RUN pip install --no-cache-dir --disable-pip-version-check "mlflow==3.5.0" "psycopg2-binary==2.9.10" \
 && useradd --create-home --uid 10002 mlflow \
 && install --directory --owner mlflow --group mlflow /mlflow
USER mlflow
WORKDIR /mlflow
EXPOSE 5000
ENTRYPOINT ["mlflow"]

# mroi with all codecs, run by a user who may do nothing else:
#
#   docker build --tag mroi .
#   docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/data" mroi pack scan.nii.gz

FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY mroi mroi
COPY share share
RUN python -m venv /app \
 && /app/bin/python -m pip install --no-cache-dir --disable-pip-version-check '.[all]'

FROM python:3.13-slim
COPY --from=build /app /app
# Kernels of calv are compiled for the processor that runs them, and kept below HOME while the container lives.
ENV PATH=/app/bin:$PATH HOME=/tmp
WORKDIR /data
USER 10001:10001
ENTRYPOINT ["mroi"]
CMD ["--help"]

# rela_bids, with its templates, its model and all that it needs: it neither downloads nor writes
# outside the folders that it is given, runs as any user, with a read-only root and without HOME.
#
#     docker build -t rela_bids .                               for CPUs
#     docker build -t rela_bids:cuda --build-arg TORCH=cu130 .  for NVIDIA GPUs
#
# TORCH           variant of PyTorch at download.pytorch.org/whl: cpu, cu126, cu130
# PIP_FIND_LINKS  folder or page of wheels that is looked in; torch then comes from there or from PyPI
# PIP_CERT        CA bundle within the build, for networks that need their own

FROM docker.io/library/debian:bookworm-slim AS build
ARG TORCH=cpu
ARG PIP_CERT
ARG PIP_FIND_LINKS
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN apt-get update -q \
    && apt-get install -y -q --no-install-recommends ca-certificates python3 python3-venv \
    && python3 -m venv /opt/venv
WORKDIR /src
COPY constraints.txt ./
# Apart, since it is large and seldom changes. What it requires comes with the package below.
RUN if [ -z "$PIP_FIND_LINKS" ]; then index="--index-url https://download.pytorch.org/whl/$TORCH"; fi \
    && /opt/venv/bin/pip install -q --no-deps $index -c constraints.txt torch
COPY setup.cfg pyproject.toml README.md LICENSE ./
COPY rela_bids rela_bids
COPY workflows workflows
# What only building and testing need is left out: headers, test suites, pip.
RUN /opt/venv/bin/pip wheel -q --no-deps -w dist . \
    && /opt/venv/bin/pip install -q -c constraints.txt dist/*.whl \
    && /opt/venv/bin/pip uninstall -q -y pip setuptools \
    && cd /opt/venv/lib/python3.11/site-packages \
    && rm -rf torch/include torch/test \
    && find torch/bin -type f ! -name torch_shm_manager -delete \
    && find pandas scipy sklearn skimage statsmodels sympy networkx matplotlib mpl_toolkits \
         -type d -name tests -prune -exec rm -rf {} +

FROM docker.io/library/debian:bookworm-slim
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="rela_bids" \
      org.opencontainers.image.description="Synthetic PET from T1w and T2-FLAIR MRI, as a BIDS App" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="docker.io/library/debian:bookworm-slim" \
      org.bids.app.name="rela_bids" \
      org.bids.app.version="$VERSION"
# mricron-data has Colin 27, the template of a whole head.
RUN apt-get update -q \
    && apt-get install -y -q --no-install-recommends mricron-data python3 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/* /usr/share/locale/* \
    && find /usr/share/doc -type f ! -name copyright -delete
COPY --from=build /opt/venv /opt/venv
# PYTHONNOUSERSITE: Apptainer shows the container the user's HOME, and packages in it must not count.
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    LC_ALL=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONNOUSERSITE=1
USER 1000:1000
WORKDIR /tmp
ENTRYPOINT ["/opt/venv/bin/rela_bids"]

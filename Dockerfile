# One image for the Space and for Jobs. Built by Hugging Face; no secret is needed at build time.
# The compiler stays in: Triton builds kernels at run time.
FROM python:3.12-slim-bookworm

RUN apt-get update \
    && apt-get install -y --no-install-recommends bash curl g++ gcc git git-lfs libc6-dev make procps tini wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 user

ENV HOME=/home/user \
    PATH=/home/user/.local/bin:/usr/local/bin:/usr/bin:/bin \
    SYSTEM=spaces \
    GRADIO_SERVER_NAME=0.0.0.0 \
    GRADIO_SERVER_PORT=7860 \
    GRADIO_NUM_PORTS=1 \
    GRADIO_ANALYTICS_ENABLED=False \
    GRADIO_RUN_HISTORY=False \
    GRADIO_TEMP_DIR=/tmp/gradio \
    CODEX_SPACE_HOME=/home/user/workspace \
    PYTHONUNBUFFERED=1

# /app, owned by uid 1000: the Space's Dev Mode expects the program there.
WORKDIR /app
RUN chown user:user /app
USER user

COPY --chown=user requirements.txt requirements-cuda.txt ./
RUN pip install --no-cache-dir --user -r requirements.txt -c requirements-cuda.txt

# llama.cpp, for exports: a layer of its own, built anew only when its pins change.
COPY --chown=user requirements-export.txt ./
COPY --chown=user scripts/export_tools.py scripts/
RUN pip install --no-cache-dir --user -r requirements-export.txt && XDG_CACHE_HOME=/tmp/build python scripts/export_tools.py && rm -rf /tmp/build

COPY --chown=user . .
RUN pip install --no-cache-dir --user --no-deps --no-build-isolation -e .

EXPOSE 7860
# tini reaps zombies and passes SIGTERM on; Python as PID 1 would ignore it.
ENTRYPOINT ["tini", "--"]
CMD ["python", "app.py"]

# Every image for amd64 and arm64, for the public workflow:
#
#   docker buildx bake -f images/docker-bake.hcl --push
#
# Not run in this project's CI, which has neither buildx nor a registry: there `make images` builds the same Dockerfile.

variable "REGISTRY" {
  default = "sidecars"
}

variable "VERSION" {
  default = "0.1.0"
}

variable "REVISION" {
  default = "unknown"
}

# A digest (python:3.13-slim@sha256:...) makes the base reproducible too.
variable "BASE" {
  default = "python:3.13-slim"
}

group "default" {
  targets = ["sidecar"]
}

# One more sidecar is one more word in `name`.
target "sidecar" {
  matrix = {
    name    = ["log-tailer", "s3-shipper", "log-adapter", "git-syncer", "git-syncer-noshell", "ambassador", "pod-init", "pod-init-full"]
    variant = ["", "-debug"]
  }
  name       = "${name}${variant}"
  context    = "."
  dockerfile = "images/Dockerfile"
  target     = name
  platforms  = ["linux/amd64", "linux/arm64"]
  args = {
    BASE     = BASE
    VARIANT  = variant
    VERSION  = VERSION
    REVISION = REVISION
  }
  tags   = ["${REGISTRY}/${name}:${VERSION}${variant}", "${REGISTRY}/${name}:latest${variant}"]
  attest = ["type=provenance,mode=max", "type=sbom"]
}

# Every image for amd64 and arm64, as the release workflow builds them (docs/releasing.md). By hand:
#
#   REGISTRY=registry.example.com/sidecars TAGS=1.2.3,1.2,1,latest docker buildx bake -f images/docker-bake.hcl --push
#
# Not run in this project's tests, which have neither buildx nor a registry: there `make images` builds the same Dockerfile.
# `python -m images.release` reads the lists of names and variants below.

variable "REGISTRY" {
  default = "sidecars"
}

variable "VERSION" {
  default = "0.1.0"
}

# Separated by commas. Each image gets all of them, a variant with its suffix.
variable "TAGS" {
  default = "${VERSION},latest"
}

variable "REVISION" {
  default = "unknown"
}

# A digest (python:3.13-slim@sha256:...) makes the base reproducible too.
variable "BASE" {
  default = "python:3.13-slim"
}

# The date of every file and of the image itself: equal sources give equal digests.
variable "SOURCE_DATE_EPOCH" {
  default = "1767225600"
}

group "default" {
  targets = ["sidecar"]
}

# One more sidecar is one more word in `name`.
target "sidecar" {
  matrix = {
    name    = ["log-tailer", "s3-shipper", "log-adapter", "git-syncer", "git-syncer-noshell", "ambassador", "ambassador-full", "pod-init", "pod-init-full"]
    variant = ["", "-debug"]
  }
  name       = "${name}${variant}"
  context    = "."
  dockerfile = "images/Dockerfile"
  target     = name
  platforms  = ["linux/amd64", "linux/arm64"]
  args = {
    BASE              = BASE
    VARIANT           = variant
    VERSION           = VERSION
    REVISION          = REVISION
    SOURCE_DATE_EPOCH = SOURCE_DATE_EPOCH
  }
  tags   = [for tag in split(",", TAGS) : "${REGISTRY}/${name}:${tag}${variant}"]
  attest = ["type=provenance,mode=max", "type=sbom"]
}

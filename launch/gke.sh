#!/usr/bin/env bash
# Runs stage 1 on one TPU slice of a GKE cluster: fills in launch/gke_jobset.yaml and
# hands it to kubectl.
#
#   NAME=exits-coco IMAGE=REGISTRY/exits:tpu CLAIM=exits ACCELERATOR=tpu-v5-lite-podslice \
#     TOPOLOGY=4x4 CHIPS_PER_HOST=4 launch/gke.sh configs/coco.py --workdir=runs/coco
#
# Assumes: kubectl points at a cluster with the JobSet controller (written for 0.8) and a
# node pool of that slice; IMAGE is built from launch/docker/tpu.Dockerfile; CLAIM is a
# ReadWriteMany volume claim with the folders data, weights and runs.
# A run that was asked to stop and is saved (75) is restarted as often as needed.
set -euo pipefail

config=${1:?usage: launch/gke.sh CONFIG [FLAGS...]}
shift
: "${NAME:?name of the run}" "${IMAGE:?container image}" "${CLAIM:?its volume claim}"
: "${ACCELERATOR:?value of the label cloud.google.com/gke-tpu-accelerator}"
: "${TOPOLOGY:?value of the label cloud.google.com/gke-tpu-topology, as 4x4}"
: "${CHIPS_PER_HOST:?TPU chips of one host, as 4}"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

refuse() { echo "$*" >&2 && exit 2; }
check() { [[ ${!1} =~ ^($2)$ ]] || refuse "$1 is '${!1}'; expected $3"; }
check NAME '[a-z]([-a-z0-9]{0,38}[a-z0-9])?' "at most 40 of a-z, 0-9 and -"
check CLAIM '[a-z0-9]([-.a-z0-9]*[a-z0-9])?' "a name of a-z, 0-9, - and ."
check IMAGE '[a-z0-9][-a-zA-Z0-9._/:@]*' "an image as REGISTRY/NAME:TAG"
check ACCELERATOR '[a-z0-9]([-a-z0-9]*[a-z0-9])?' "a label as tpu-v5-lite-podslice"
check TOPOLOGY '[1-9][0-9]*(x[1-9][0-9]*){1,2}' "numbers joined by x, as 4x4"
check CHIPS_PER_HOST '[1-9][0-9]*' "a number of chips, as 4"
chips=$((${TOPOLOGY//x/ * }))
((chips % CHIPS_PER_HOST == 0)) \
  || refuse "TOPOLOGY $TOPOLOGY has $chips chips, no multiple of $CHIPS_PER_HOST per host"

# A JSON string is a YAML string; Kubernetes itself reads \$( as a reference.
quote() {
  [[ $1 != *[[:cntrl:]]* ]] || refuse "a flag holds a control character: $(printf %q "$1")"
  local text=${1//\\/\\\\}
  text=${text//\"/\\\"}
  printf ', "%s"' "${text//\$(/\$\$(}"
}
arguments='"--distributed"'
for argument in "--config=$config" "$@"; do arguments+=$(quote "$argument"); done

manifest=$(<launch/gke_jobset.yaml)
for key in NAME IMAGE CLAIM ACCELERATOR TOPOLOGY CHIPS_PER_HOST; do
  manifest=${manifest//"@$key@"/"${!key}"}
done
manifest=${manifest//'@HOSTS@'/"$((chips / CHIPS_PER_HOST))"}
manifest=${manifest//'@ARGUMENTS@'/"$arguments"}

if [[ -n "${DRY_RUN:-}" ]]; then
  echo "$manifest"
else
  kubectl apply --filename=- <<<"$manifest"
fi

# shellcheck shell=bash
# Sixteen static local volumes. Nothing provisions or cleans them, so each serves
# one claim; afterwards it is given back by making it anew.

volume_names() { printf 'local-%02d\n' {0..15}; }

# volume NAME: its manifest.
volume() {
  cat << YAML
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: $1}
spec:
  storageClassName: local
  capacity: {storage: 10Gi}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  local: {path: /var/lib/volumes/$1}
  nodeAffinity:
    required:
      nodeSelectorTerms:
      - matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [$node_name]}]
YAML
}

# recycle_volumes: makes anew what was used and let go, and what is not there.
# Prints the names.
recycle_volumes() {
  local folders=$state_dir/node/lib/volumes name phase names=() used=()
  local -A phases=()
  while read -r name phase; do
    phases[$name]=$phase
  done < <(kubectl get pv -o 'jsonpath={range .items[*]}{.metadata.name} {.status.phase}{"\n"}{end}')
  while read -r name; do
    case ${phases[$name]:-Absent} in
      Absent) names+=("$name") ;;
      Released | Failed) names+=("$name") used+=("$name") ;;
    esac
  done < <(volume_names)
  ((${#names[@]})) || return 0
  ((!${#used[@]})) || kubectl delete pv --ignore-not-found --wait --timeout=60s "${used[@]}" > /dev/null
  for name in "${names[@]}"; do
    rm -rf --one-file-system "${folders:?}/$name"
    mkdir "$folders/$name"
    # Whatever user a pod runs as.
    chmod 0777 "$folders/$name"
  done
  for name in "${names[@]}"; do volume "$name"; done | kubectl create -f - > /dev/null
  printf '%s\n' "${names[@]}"
}

# shellcheck shell=bash
# The processes of the node: started when they do not run, and waited for.

# The control plane first; the rest needs its API.
first_components=(etcd containerd kube-apiserver)
other_components=(kube-controller-manager kube-scheduler kubelet kube-proxy coredns)

# start_missing COMPONENT...
start_missing() {
  local component missing=()
  for component in "$@"; do
    running "$component" || missing+=("$component")
  done
  ((${#missing[@]})) || return 0
  (
    close_descriptors
    in_node bash /var/lib/kubernetes/start "${missing[@]}"
  )
}

# wait_for COMPONENT SECONDS: until it does its work; shows its log when it does not.
wait_for() {
  wait_until "$2" "$1 works" "works_$1" || {
    say "the end of $state_dir/node/log/$1.log:"
    tail -n 15 "$state_dir/node/log/$1.log" >&2
    return 1
  }
}

listens() { in_node bash -c "< /dev/tcp/127.0.0.1/$1"; }

works_containerd() { in_node ctr version; }
works_kube-apiserver() { kubectl get --raw /readyz; }
works_kube-controller-manager() { listens 10257; }
works_kube-scheduler() { listens 10259; }
works_kube-proxy() { in_node busybox wget -q -O - http://127.0.0.1:10256/healthz; }

works_kubelet() {
  in_node busybox wget -q -O - http://127.0.0.1:10248/healthz || return 1
  # A node keeps its last condition when it dies, so look at the pulse as well:
  # it must be this kubelet's, and fresh.
  local ready renewed started
  started=$(stat -c %Y "/proc/$(node_pid)/root/run/kubelet.pid")
  ready=$(kubectl get node "$node_name" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}') &&
    renewed=$(kubectl get lease "$node_name" --namespace kube-node-lease -o 'jsonpath={.spec.renewTime}') || return 1
  printf '\nReady=%s, last sign of life %s\n' "$ready" "$renewed"
  renewed=$(date -d "$renewed" +%s)
  [[ $ready == True ]] && ((renewed >= started && renewed > $(date +%s) - 30))
}

# Asked from the host, as a pod would ask.
works_coredns() { busybox nslookup -type=a kubernetes.default.svc.cluster.local "$(node_address)"; }

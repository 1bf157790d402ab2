# shellcheck shell=bash
# Certificates and kubeconfigs, each client with a name of its own, as kubeadm does.

# certificate NAME SUBJECT [SUBJECT-ALTERNATIVE-NAMES]
certificate() {
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -keyout "$1.key" -subj "$2" -out "$1.csr"
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -out "$1.crt" \
    -extfile <(printf 'extendedKeyUsage=clientAuth,serverAuth\n%s\n' "${3:+subjectAltName=$3}")
  rm "$1.csr"
}

# kubeconfig NAME SERVER: everything inside, so that the file can be copied.
kubeconfig() {
  cat << YAML
apiVersion: v1
kind: Config
current-context: $cluster_name
contexts: [{name: $cluster_name, context: {cluster: $cluster_name, user: $1}}]
clusters: [{name: $cluster_name, cluster: {server: "$2", certificate-authority-data: $(base64 -w0 ca.crt)}}]
users: [{name: $1, user: {client-certificate-data: $(base64 -w0 "$1.crt"), client-key-data: $(base64 -w0 "$1.key")}}]
YAML
}

# write_pki FOLDER
write_pki() {
  local name node_ip
  node_ip=$(node_address)
  umask 077
  mkdir -p "$1"
  cd "$1" || return

  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 3650 \
    -subj "/CN=$cluster_name" -keyout ca.key -out ca.crt
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out service-accounts.key
  openssl pkey -in service-accounts.key -pubout -out service-accounts.pub

  certificate apiserver /CN=kube-apiserver \
    "IP:127.0.0.1,IP:$node_ip,IP:10.96.0.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
  certificate apiserver-kubelet /O=system:masters/CN=kube-apiserver-kubelet-client
  certificate kubelet "/O=system:nodes/CN=system:node:$node_name" "IP:$node_ip,DNS:$node_name"
  certificate admin /O=system:masters/CN=admin
  certificate controller-manager /CN=system:kube-controller-manager
  certificate scheduler /CN=system:kube-scheduler
  certificate kube-proxy /CN=system:kube-proxy
  certificate coredns /CN=system:coredns

  for name in kubelet controller-manager scheduler kube-proxy coredns; do
    kubeconfig "$name" https://127.0.0.1:6443 > "$name.kubeconfig"
  done
  kubeconfig admin "https://$node_ip:6443" > "$state_dir/kubeconfig"
  # Whoever called sudo shall be able to use the cluster.
  if [[ -n ${SUDO_UID:-} ]]; then chown "$SUDO_UID:${SUDO_GID:-}" "$state_dir/kubeconfig"; fi
}

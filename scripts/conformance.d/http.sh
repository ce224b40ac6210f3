# `kmsfs serve`: pages of lists of many keys while others write, and many connections that do nothing.

suite_http() {
    if [ "$on" != kmsfs ]; then
        row http 0 0 0 3 "nothing else is asked over HTTP"
        return
    fi
    keys=1000000 connections=10000
    [ "$short" = no ] || { keys=20000; connections=2000; }
    measured=$base/measured-http
    : >"$measured"
    mount_fresh
    steps http "$keys keys, $connections connections" http_list_flat http_list_deep http_idle
    sed 's/^/  /' "$measured" >&2
    cat "$measured" >>"$logs/measured"
}

# Runs serving.py with the server's address and an access key, beside a server of its own.
with_server() {
    local pid status=0
    "$kmsfs" iam --store "$place/store" --key-file "$place/key" create-access-key --user-name root >"$place/access-key"
    ( ulimit -n "$(ulimit -H -n)"; exec "$kmsfs" serve --key-file "$place/key" --listen 127.0.0.1:0 "$place/mnt" ) >"$place/said" &
    pid=$!
    for _ in $(seq 600); do
        grep -q '://' "$place/said" && break
        sleep 0.1
    done
    python3 "$here/scripts/conformance.d/serving.py" "$@" --address "$(sed -n 's|.*://||p' "$place/said")" \
        --access-key "$place/access-key" --mount "$place/mnt" --pid "$pid" >>"$measured" || status=$?
    kill "$pid"
    wait "$pid" || status=$?
    return "$status"
}

# All in one directory, and in directories of a thousand.
http_list_flat() { with_server list --keys "$keys" --shape flat; }
http_list_deep() { with_server list --keys "$keys" --shape deep; }
http_idle() { with_server idle --connections "$connections"; }

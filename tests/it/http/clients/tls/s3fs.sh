mkdir -p "$MNT/bucket" through
echo "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" > password
chmod 600 password
CURL_CA_BUNDLE=$CA s3fs bucket through -o url="$AWS_ENDPOINT_URL" -o use_path_request_style -o passwd_file=password -o endpoint=us-east-1
trap 'umount through' EXIT
head -c 12000000 /dev/urandom > big
cp big through/big
sync through/big
cmp big "$MNT/bucket/big"
echo other > "$MNT/bucket/from-below"
test "$(cat through/from-below)" = other

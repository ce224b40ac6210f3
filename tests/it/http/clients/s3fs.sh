mkdir -p "$MNT/bucket" through
echo "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" > password
chmod 600 password
s3fs bucket through -o url="$AWS_ENDPOINT_URL" -o use_path_request_style -o passwd_file=password -o endpoint=us-east-1
trap 'umount through' EXIT
echo text > through/a
mkdir through/dir
head -c 12000000 /dev/urandom > big
cp big through/dir/big
sync through/dir/big
cmp big "$MNT/bucket/dir/big"
test "$(cat "$MNT/bucket/a")" = text
mv through/a through/dir/b
test "$(cat "$MNT/bucket/dir/b")" = text
echo other > "$MNT/bucket/from-below"
test "$(cat through/from-below)" = other
ls through/dir | sort | tr '\n' ' ' | grep '^b big $' > /dev/null
rm -r through/dir
test ! -e "$MNT/bucket/dir"

s3() { s3cmd --no-ssl --host="$HOST" --host-bucket="$HOST" --access_key="$AWS_ACCESS_KEY_ID" --secret_key="$AWS_SECRET_ACCESS_KEY" --region=us-east-1 "$@"; }
s3 mb s3://bucket
head -c 16000000 /dev/urandom > big
s3 put --quiet --multipart-chunk-size-mb=5 big s3://bucket/dir/big
cmp big "$MNT/bucket/dir/big"
s3 get --quiet s3://bucket/dir/big back
cmp big back
echo text > "$MNT/bucket/from the mount"
s3 ls s3://bucket | grep 'from the mount' > /dev/null
s3 info s3://bucket | grep 'Location:  us-east-1' > /dev/null
s3 info s3://bucket/dir/big | grep 'File size: 16000000' > /dev/null
s3 put --quiet --server-side-encryption --server-side-encryption-kms-id=alias/aws/s3 back s3://bucket/kms
kmsfs stat "$MNT/bucket/kms" | grep '"ServerSideEncryption": "aws:kms"' > /dev/null
s3 del --quiet --recursive --force s3://bucket
s3 rb s3://bucket
test ! -e "$MNT/bucket"

s3() { s3cmd --ssl --ca-certs="$CA" --host="$HOST" --host-bucket="$HOST" --access_key="$AWS_ACCESS_KEY_ID" --secret_key="$AWS_SECRET_ACCESS_KEY" --region=us-east-1 "$@"; }
s3 mb s3://bucket
head -c 7000000 /dev/urandom > big
s3 put --quiet --multipart-chunk-size-mb=5 big s3://bucket/big
cmp big "$MNT/bucket/big"
s3 get --quiet s3://bucket/big back
cmp big back
s3 put --quiet --server-side-encryption --server-side-encryption-kms-id=alias/aws/s3 /etc/passwd s3://bucket/kms
cmp /etc/passwd "$MNT/bucket/kms"

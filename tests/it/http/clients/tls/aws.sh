head -c 9000000 /dev/urandom > big
aws s3 mb s3://bucket
aws s3 cp --quiet big s3://bucket/big
cmp big "$MNT/bucket/big"
aws s3 cp --quiet s3://bucket/big back
cmp big back
aws s3api put-object --bucket bucket --key kms --body /etc/passwd --server-side-encryption aws:kms | grep '"ServerSideEncryption": "aws:kms"' > /dev/null
cmp /etc/passwd "$MNT/bucket/kms"
aws kms create-key | grep '"Enabled": true' > /dev/null
aws sts get-caller-identity | grep ':root"' > /dev/null

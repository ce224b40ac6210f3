export S3_ENDPOINT_URL=$AWS_ENDPOINT_URL
s5() { s5cmd --log error "$@"; }
s5 mb s3://bucket
for n in $(seq 30); do mkdir -p "tree/$((n % 3))"; head -c $((n * 5000)) /dev/urandom > "tree/$((n % 3))/$n file"; done
head -c 12000000 /dev/urandom > tree/big
s5 cp --part-size 5 tree/ s3://bucket/tree/
diff -r tree "$MNT/bucket/tree"
s5 cp --part-size 5 --concurrency 3 s3://bucket/tree/big back
cmp tree/big back
s5 cp 's3://bucket/tree/*' copied/
diff -r tree copied
rm tree/1/1* && echo new > tree/new
s5 sync --delete tree/ s3://bucket/tree/
diff -r tree "$MNT/bucket/tree"
test "$(s5cmd ls s3://bucket/ | grep -c "DIR  *tree/")" = 1
s5 mv s3://bucket/tree/new s3://bucket/moved
test "$(cat "$MNT/bucket/moved")" = new
test "$(s5cmd cat s3://bucket/moved)" = new
s5 cp --sse aws:kms --sse-kms-key-id alias/aws/s3 back s3://bucket/kms
kmsfs stat "$MNT/bucket/kms" | grep '"ServerSideEncryption": "aws:kms"' > /dev/null
s5 rm 's3://bucket/*'
s5 rb s3://bucket
test ! -e "$MNT/bucket"

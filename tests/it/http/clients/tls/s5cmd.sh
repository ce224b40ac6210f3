export S3_ENDPOINT_URL=$AWS_ENDPOINT_URL
head -c 12000000 /dev/urandom > big
s5cmd mb s3://bucket > /dev/null
s5cmd --log error cp --part-size 5 big s3://bucket/big
cmp big "$MNT/bucket/big"
s5cmd --log error cp s3://bucket/big back
cmp big back

unset AWS_CA_BUNDLE
export RCLONE_CONFIG_S_TYPE=s3 RCLONE_CONFIG_S_PROVIDER=Other RCLONE_CONFIG_S_ENV_AUTH=true RCLONE_CONFIG_S_ENDPOINT=$AWS_ENDPOINT_URL
export RCLONE_CONFIG_S_SERVER_SIDE_ENCRYPTION=aws:kms RCLONE_CA_CERT=$CA
for n in $(seq 10); do mkdir -p "tree/$((n % 3))"; head -c $((n * 3000)) /dev/urandom > "tree/$((n % 3))/$n file"; done
head -c 7000000 /dev/urandom > tree/big
rclone mkdir s:bucket
rclone sync --s3-upload-cutoff 5M --s3-chunk-size 5M tree s:bucket/tree
diff -r tree "$MNT/bucket/tree"
kmsfs stat "$MNT/bucket/tree/big" | grep '"ServerSideEncryption": "aws:kms"' > /dev/null
rclone copy s:bucket/tree back
diff -r tree back

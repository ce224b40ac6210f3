export RCLONE_CONFIG_S_TYPE=s3 RCLONE_CONFIG_S_PROVIDER=Other RCLONE_CONFIG_S_ENV_AUTH=true RCLONE_CONFIG_S_ENDPOINT=$AWS_ENDPOINT_URL
for n in $(seq 40); do mkdir -p "tree/$((n % 4))"; head -c $((n * 3000)) /dev/urandom > "tree/$((n % 4))/$n file"; done
head -c 7000000 /dev/urandom > tree/big
rclone mkdir s:bucket
rclone mkdir s:bucket
rclone sync --s3-upload-cutoff 5M --s3-chunk-size 5M tree s:bucket/tree
diff -r tree "$MNT/bucket/tree"
rclone check tree s:bucket/tree
rm tree/1/1* && echo new > tree/new
rclone sync tree s:bucket/tree
diff -r tree "$MNT/bucket/tree"
rclone copy s:bucket/tree back
diff -r tree back
test "$(rclone lsf -R s:bucket | grep -cv '/$')" = "$(find tree -type f | wc -l)"
rclone moveto s:bucket/tree/new s:bucket/moved
test "$(cat "$MNT/bucket/moved")" = new
rclone purge s:bucket
test ! -e "$MNT/bucket"

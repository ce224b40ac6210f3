export RESTIC_PASSWORD=a-password RESTIC_REPOSITORY=s3:$AWS_ENDPOINT_URL/backups/restic
mkdir -p "$MNT/backups"
for n in $(seq 30); do mkdir -p "tree/$((n % 5))"; head -c $((n * 20000)) /dev/urandom > "tree/$((n % 5))/$n"; done
restic --quiet init
restic --quiet backup tree
echo more > tree/more
restic --quiet backup tree
restic --quiet check --read-data
test -e "$MNT/backups/restic/config"
restic --quiet restore latest --target back
diff -r tree "back/$PWD/tree" || diff -r tree back/tree
restic --quiet forget --keep-last 1 --prune
restic --quiet check

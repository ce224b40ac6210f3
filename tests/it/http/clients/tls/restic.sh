export RESTIC_PASSWORD=a-password RESTIC_REPOSITORY=s3:$AWS_ENDPOINT_URL/backups/restic
mkdir "$MNT/backups" tree
head -c 3000000 /dev/urandom > tree/a
restic --quiet --cacert "$CA" init
restic --quiet --cacert "$CA" backup tree
restic --quiet --cacert "$CA" check --read-data
restic --quiet --cacert "$CA" restore latest --target back
diff -r tree "back/$PWD/tree" || diff -r tree back/tree

# The article's own commands, then those that copy trees: uploads in parts, copies on the server, pages of lists.
echo '{"Rules":[{"ApplyServerSideEncryptionByDefault":{"SSEAlgorithm":"aws:kms"}}]}' > kms.json
aws s3api create-bucket --bucket agents
aws s3api put-bucket-encryption --bucket agents --server-side-encryption-configuration file://kms.json
cmp <(python3 -m json.tool --compact kms.json) <(python3 -m json.tool --compact "$MNT/agents/.encryption.json")
aws s3api get-bucket-encryption --bucket agents | grep '"SSEAlgorithm": "aws:kms"' > /dev/null
echo '{"name": "Bond, James Bond"}' > bond.json
aws s3api put-object --bucket agents --key bond.json --body bond.json | grep '"ServerSideEncryption": "aws:kms"' > /dev/null
cmp bond.json "$MNT/agents/bond.json"
key=$(aws kms create-key --description mine --query KeyMetadata.KeyId --output text)
aws kms create-alias --alias-name alias/mine --target-key-id "$key"
aws s3api put-object --bucket agents --key mine.json --body bond.json --server-side-encryption aws:kms --ssekms-key-id alias/mine \
    --metadata rank=commander --content-type application/json | grep "key/$key" > /dev/null
test "$(aws s3api head-object --bucket agents --key mine.json --query Metadata.rank --output text)" = commander
kmsfs stat "$MNT/agents/mine.json" | grep "key/$key" > /dev/null

aws kms disable-key --key-id "$key"
sleep 1
! aws s3api get-object --bucket agents --key mine.json got 2> refused
grep -q "KMS.DisabledException.*$key is disabled" refused
aws kms enable-key --key-id "$key"
sleep 1
aws s3api get-object --bucket agents --key mine.json got > answer
cmp bond.json got
aws kms encrypt --key-id alias/mine --plaintext fileb://bond.json --query CiphertextBlob --output text | base64 -d > blob
aws kms decrypt --ciphertext-blob fileb://blob --query Plaintext --output text | base64 -d | cmp bond.json
aws sts get-caller-identity | grep ':root"' > /dev/null

head -c 20000000 /dev/urandom > big
aws s3 cp --quiet big s3://agents/dir/big
cmp big "$MNT/agents/dir/big"
aws s3api head-object --bucket agents --key dir/big | grep -- '-3\\""' > /dev/null
aws s3 cp --quiet s3://agents/dir/big back
cmp big back
aws s3 cp --quiet s3://agents/dir/big s3://agents/dir/copied
cmp big "$MNT/agents/dir/copied"
for n in $(seq 30); do mkdir -p "tree/$((n % 3))/a b"; echo "$n" > "tree/$((n % 3))/a b/$n ü.txt"; done
aws s3 sync --quiet tree s3://agents/tree
diff -r tree "$MNT/agents/tree"
echo changed > "$MNT/agents/tree/1/a b/1 ü.txt"
aws s3 sync --quiet s3://agents/tree back-tree
diff -r back-tree "$MNT/agents/tree"
test "$(aws s3api list-objects-v2 --bucket agents --prefix tree/ --page-size 7 --query 'length(Contents)')" = 30
aws s3 mv --quiet s3://agents/bond.json s3://agents/moved.json
cmp bond.json "$MNT/agents/moved.json"
test ! -e "$MNT/agents/bond.json"
! aws s3 rb s3://agents 2> refused
grep -q BucketNotEmpty refused
aws s3 rm --quiet --recursive s3://agents
aws s3 rb s3://agents
test ! -e "$MNT/agents"

import boto3, os, re
from botocore.client import Config
from botocore.exceptions import ClientError

# A 501 is not retried here; Terraform would for ever.
config = Config(retries={"total_max_attempts": 1})
s3, kms, sts = (boto3.client(name, config=config) for name in ["s3", "kms", "sts"])

def answer(client, call, **arguments):
    """What is answered, without what all answers have; or the code and the status of a refusal."""
    try:
        got = getattr(client, call)(**arguments)
    except ClientError as error:
        return error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
    return {name: value for name, value in got.items() if name != "ResponseMetadata"}

# `apply` of a key, its alias, a bucket and an object.
account = answer(sts, "get_caller_identity")["Account"]
key = kms.create_key(Description="of the bucket", Tags=[{"TagKey": "purpose", "TagValue": "test"}])["KeyMetadata"]
kms.enable_key_rotation(KeyId=key["KeyId"])
kms.create_alias(AliasName="alias/terraform", TargetKeyId=key["KeyId"])
s3.create_bucket(Bucket="bucket")
s3.put_public_access_block(Bucket="bucket", PublicAccessBlockConfiguration=dict.fromkeys(
    ["BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"], True))
s3.put_bucket_ownership_controls(Bucket="bucket", OwnershipControls={"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]})

# `plan`, of a bucket where nothing is configured: in the provider's order, and what AWS answers.
owner = s3.list_buckets()["Owner"]
assert re.fullmatch("[0-9a-f]{64}", owner["ID"]), owner
grant = {"Grantee": {**owner, "Type": "CanonicalUser"}, "Permission": "FULL_CONTROL"}
encryption = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}, "BucketKeyEnabled": False}
blocked = dict.fromkeys(["BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"], True)
expected = {
    "head_bucket": {"BucketRegion": "us-east-1", "AccessPointAlias": False},
    "get_bucket_policy": ("NoSuchBucketPolicy", 404),
    "get_bucket_acl": {"Owner": owner, "Grants": [grant]},
    "get_bucket_cors": ("NoSuchCORSConfiguration", 404),
    "get_bucket_website": ("NoSuchWebsiteConfiguration", 404),
    "get_bucket_versioning": {},
    "get_bucket_accelerate_configuration": {},
    "get_bucket_request_payment": {"Payer": "BucketOwner"},
    "get_bucket_logging": {},
    "get_bucket_lifecycle_configuration": ("NoSuchLifecycleConfiguration", 404),
    "get_bucket_replication": ("ReplicationConfigurationNotFoundError", 404),
    "get_bucket_encryption": {"ServerSideEncryptionConfiguration": {"Rules": [encryption]}},
    "get_object_lock_configuration": ("ObjectLockConfigurationNotFoundError", 404),
    "get_bucket_location": {"LocationConstraint": None},
    "get_bucket_tagging": ("NoSuchTagSet", 404),
    "get_public_access_block": {"PublicAccessBlockConfiguration": blocked},
    "get_bucket_ownership_controls": {"OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}},
    "get_bucket_policy_status": ("NoSuchBucketPolicy", 404),
    "get_bucket_notification_configuration": {},
    "list_bucket_analytics_configurations": {"IsTruncated": False},
    "list_bucket_intelligent_tiering_configurations": {"IsTruncated": False},
    "list_bucket_inventory_configurations": {"IsTruncated": False},
    "list_bucket_metrics_configurations": {"IsTruncated": False},
}
for call, what in expected.items():
    got = answer(s3, call, Bucket="bucket")
    if call == "get_bucket_encryption" and isinstance(got, dict):
        # What newer accounts have beside it.
        got["ServerSideEncryptionConfiguration"]["Rules"][0].pop("BlockedEncryptionTypes", None)
    assert got == what, (call, got)

# The same of what was configured, the object and the key.
rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key["Arn"]}, "BucketKeyEnabled": True}
s3.put_bucket_encryption(Bucket="bucket", ServerSideEncryptionConfiguration={"Rules": [rule]})
s3.put_bucket_tagging(Bucket="bucket", Tagging={"TagSet": [{"Key": "purpose", "Value": "test"}]})
got, = s3.get_bucket_encryption(Bucket="bucket")["ServerSideEncryptionConfiguration"]["Rules"]
assert {name: got[name] for name in rule} == rule, got
assert answer(s3, "get_bucket_tagging", Bucket="bucket") == {"TagSet": [{"Key": "purpose", "Value": "test"}]}
s3.put_object(Bucket="bucket", Key="dir/object", Body=b"text", Tagging="owner=me")
head = s3.head_object(Bucket="bucket", Key="dir/object")
assert (head["SSEKMSKeyId"], head["BucketKeyEnabled"], head["ContentLength"]) == (key["Arn"], True, 4), head
assert answer(s3, "get_object_tagging", Bucket="bucket", Key="dir/object") == {"TagSet": [{"Key": "owner", "Value": "me"}]}
described = kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"]
assert (described["Description"], described["KeyState"]) == ("of the bucket", "Enabled"), described
assert f"arn:aws:iam::{account}:root" in kms.get_key_policy(KeyId=key["KeyId"], PolicyName="default")["Policy"]
assert kms.get_key_rotation_status(KeyId=key["KeyId"])["KeyRotationEnabled"] is True
assert kms.list_resource_tags(KeyId=key["KeyId"])["Tags"] == [{"TagKey": "purpose", "TagValue": "test"}]
aliases = [alias for page in kms.get_paginator("list_aliases").paginate() for alias in page["Aliases"]]
assert key["KeyId"] in [alias.get("TargetKeyId") for alias in aliases if alias["AliasName"] == "alias/terraform"], aliases

# `destroy`.
s3.delete_object(Bucket="bucket", Key="dir/object")
s3.delete_bucket(Bucket="bucket")
kms.delete_alias(AliasName="alias/terraform")
kms.schedule_key_deletion(KeyId=key["KeyId"], PendingWindowInDays=7)
assert kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"]["KeyState"] == "PendingDeletion"
assert answer(s3, "head_bucket", Bucket="bucket")[1] == 404
assert not os.path.exists(f"{os.environ['MNT']}/bucket")

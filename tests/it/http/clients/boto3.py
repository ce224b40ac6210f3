import boto3, hashlib, os, urllib.request
from botocore.client import Config
from botocore.exceptions import ClientError

s3, kms = boto3.client("s3"), boto3.client("kms")
mnt = os.environ["MNT"]

def refused(code, status, call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        got = (error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"])
        assert got == (code, status), got
    else:
        raise AssertionError(f"{code} was expected")

def file(path):
    with open(f"{mnt}/bucket/{path}", "rb") as file:
        return file.read()

s3.create_bucket(Bucket="bucket")
key = kms.create_key()["KeyMetadata"]["Arn"]

# An upload in parts under a KMS key, the last of them first.
made = s3.create_multipart_upload(Bucket="bucket", Key="deep/in/parts", ServerSideEncryption="aws:kms", SSEKMSKeyId=key)
assert made["SSEKMSKeyId"] == key, made
upload = dict(Bucket="bucket", Key="deep/in/parts", UploadId=made["UploadId"])
parts = {1: os.urandom(5 << 20), 2: os.urandom(5 << 20), 3: b"the end"}
etags = {}
for number in [3, 1, 2, 1]:
    answer = s3.upload_part(**upload, PartNumber=number, Body=parts[number])
    assert answer["SSEKMSKeyId"] == key, answer
    etags[number] = answer["ETag"]
assert [part["PartNumber"] for part in s3.list_parts(**upload)["Parts"]] == [1, 2, 3]
assert [each["Key"] for each in s3.list_multipart_uploads(Bucket="bucket")["Uploads"]] == ["deep/in/parts"]
assert s3.list_objects_v2(Bucket="bucket")["KeyCount"] == 0
listed = {"Parts": [{"PartNumber": number, "ETag": etags[number]} for number in parts]}
refused("InvalidPart", 400, s3.complete_multipart_upload, **upload,
    MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": '"00"'}]})
done = s3.complete_multipart_upload(**upload, MultipartUpload=listed)
assert done["ETag"].endswith('-3"') and done["SSEKMSKeyId"] == key, done
whole = b"".join(parts.values())
assert file("deep/in/parts") == whole
ranged = s3.get_object(Bucket="bucket", Key="deep/in/parts", Range="bytes=5242870-5242889")
assert (ranged["Body"].read(), ranged["ResponseMetadata"]["HTTPStatusCode"]) == (whole[5242870:5242890], 206)
second = s3.get_object(Bucket="bucket", Key="deep/in/parts", PartNumber=2)
assert second["PartsCount"] == 3 and second["Body"].read() == parts[2]
aborted = s3.create_multipart_upload(Bucket="bucket", Key="never")
s3.abort_multipart_upload(Bucket="bucket", Key="never", UploadId=aborted["UploadId"])
refused("NoSuchUpload", 404, s3.list_parts, Bucket="bucket", Key="never", UploadId=aborted["UploadId"])

# Presigned URLs, by both signatures of the body.
v4 = boto3.client("s3", config=Config(signature_version="s3v4"))
url = v4.generate_presigned_url("put_object", Params={"Bucket": "bucket", "Key": "by url"})
request = urllib.request.Request(url, data=b"content", method="PUT")
assert urllib.request.urlopen(request).status == 200
assert file("by url") == b"content"
url = v4.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "by url"})
assert urllib.request.urlopen(url).read() == b"content"

# Metadata, tags, checksums, conditions.
body = b"some text"
answer = s3.put_object(Bucket="bucket", Key="t", Body=body, Metadata={"a": "1"}, Tagging="k=v", ContentType="text/plain",
    CacheControl="no-store", ChecksumAlgorithm="SHA256")
assert answer["ETag"] == f'"{hashlib.md5(body).hexdigest()}"', answer
head = s3.head_object(Bucket="bucket", Key="t", ChecksumMode="ENABLED")
assert (head["Metadata"], head["ContentType"], head["CacheControl"]) == ({"a": "1"}, "text/plain", "no-store"), head
assert head["ChecksumSHA256"] == answer["ChecksumSHA256"]
assert s3.get_object_tagging(Bucket="bucket", Key="t")["TagSet"] == [{"Key": "k", "Value": "v"}]
refused("PreconditionFailed", 412, s3.put_object, Bucket="bucket", Key="t", Body=b"x", IfNoneMatch="*")
refused("304", 304, s3.get_object, Bucket="bucket", Key="t", IfNoneMatch=answer["ETag"])
assert file("t") == body
s3.copy_object(Bucket="bucket", Key="copy", CopySource="bucket/t", ServerSideEncryption="aws:kms", SSEKMSKeyId=key)
copied = s3.head_object(Bucket="bucket", Key="copy")
assert copied["SSEKMSKeyId"] == key and copied["Metadata"] == {"a": "1"}, copied
assert file("copy") == body

# Lists in pages, with prefixes; many deletions at once.
for number in range(25):
    s3.put_object(Bucket="bucket", Key=f"list/{number:02}/x", Body=b"")
pages = s3.get_paginator("list_objects_v2").paginate(Bucket="bucket", Prefix="list/", Delimiter="/", PaginationConfig={"PageSize": 4})
assert [each["Prefix"] for page in pages for each in page["CommonPrefixes"]] == [f"list/{n:02}/" for n in range(25)]
pages = s3.get_paginator("list_objects").paginate(Bucket="bucket", Prefix="list/", PaginationConfig={"PageSize": 4})
keys = [each["Key"] for page in pages for each in page["Contents"]]
assert keys == [f"list/{n:02}/x" for n in range(25)]
versions = s3.list_object_versions(Bucket="bucket", Prefix="list/00")["Versions"]
assert [each["VersionId"] for each in versions] == ["null"]
gone = s3.delete_objects(Bucket="bucket", Delete={"Objects": [{"Key": key} for key in keys]})
assert len(gone["Deleted"]) == 25 and not os.path.exists(f"{mnt}/bucket/list")
refused("NoSuchKey", 404, s3.get_object, Bucket="bucket", Key="list/00/x")
refused("NoSuchBucket", 404, s3.list_objects_v2, Bucket="no-such-bucket")

# What a fresh bucket says of everything that is not configured.
refused("NoSuchBucketPolicy", 404, s3.get_bucket_policy, Bucket="bucket")
refused("NoSuchCORSConfiguration", 404, s3.get_bucket_cors, Bucket="bucket")
refused("NoSuchTagSet", 404, s3.get_bucket_tagging, Bucket="bucket")
assert "Status" not in s3.get_bucket_versioning(Bucket="bucket")
assert s3.get_bucket_location(Bucket="bucket")["LocationConstraint"] is None
refused("NotImplemented", 501, s3.put_bucket_versioning, Bucket="bucket", VersioningConfiguration={"Status": "Enabled"})

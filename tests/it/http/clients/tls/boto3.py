import boto3, os, ssl, urllib.request
from botocore.client import Config

s3 = boto3.client("s3", config=Config(signature_version="s3v4"))
mnt = os.environ["MNT"]

def file(path):
    with open(f"{mnt}/bucket/{path}", "rb") as file:
        return file.read()

s3.create_bucket(Bucket="bucket")
# By TLS bodies are not signed: their checksum comes behind them.
content = os.urandom(100_000)
for algorithm in ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"]:
    try:
        put = s3.put_object(Bucket="bucket", Key=algorithm, Body=content, ChecksumAlgorithm=algorithm)
    except Exception as error:
        # Some need a module of their own.
        assert "CRT" in str(error) or "crt" in str(error), error
        continue
    assert put[f"Checksum{algorithm}"] and file(algorithm) == content
    got = s3.get_object(Bucket="bucket", Key=algorithm, ChecksumMode="ENABLED")
    assert got["Body"].read() == content
with open("big", "wb") as big:
    big.write(os.urandom(9_000_000))
s3.upload_file("big", "bucket", "big", ExtraArgs={"ServerSideEncryption": "aws:kms"})
assert file("big") == open("big", "rb").read()
s3.download_file("bucket", "big", "back")
assert open("back", "rb").read() == file("big")
url = s3.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "CRC32"})
trusted = ssl.create_default_context(cafile=os.environ["AWS_CA_BUNDLE"])
assert urllib.request.urlopen(url, context=trusted).read() == content
assert boto3.client("sts").get_caller_identity()["Arn"].endswith("root")

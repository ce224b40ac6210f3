# A bucket with a key of its own, and an object: made, found as it was made, and destroyed with what others put there.
mirror=mirror/registry.terraform.io/hashicorp/aws
mkdir -p "$mirror"
ln -s "$KMSFS_TEST_CLIENTS"/cloudrail/terraform_plugins/*_3.39.0_*.zip "$mirror/"
echo "provider_installation { filesystem_mirror { path = \"$PWD/mirror\" } }" > terraform.rc
export TF_CLI_CONFIG_FILE=$PWD/terraform.rc TF_IN_AUTOMATION=1 CHECKPOINT_DISABLE=1 TF_VAR_url=$AWS_ENDPOINT_URL
unset AWS_ENDPOINT_URL
cat > main.tf <<'END'
variable "url" {}
terraform {
  required_providers {
    aws = { source = "hashicorp/aws", version = "3.39.0" }
  }
}
provider "aws" {
  region                  = "us-east-1"
  s3_force_path_style     = true
  skip_metadata_api_check = true
  endpoints {
    s3  = var.url
    kms = var.url
    sts = var.url
    iam = var.url
  }
}
data "aws_caller_identity" "me" {}
resource "aws_kms_key" "key" {
  description             = "of the bucket"
  enable_key_rotation     = true
  deletion_window_in_days = 7
  tags                    = { purpose = "test" }
}
resource "aws_kms_alias" "alias" {
  name          = "alias/terraform"
  target_key_id = aws_kms_key.key.key_id
}
resource "aws_s3_bucket" "bucket" {
  bucket        = "made-by-terraform"
  force_destroy = true
  tags          = { purpose = "test" }
  server_side_encryption_configuration {
    rule {
      bucket_key_enabled = true
      apply_server_side_encryption_by_default {
        sse_algorithm     = "aws:kms"
        kms_master_key_id = aws_kms_key.key.arn
      }
    }
  }
}
resource "aws_s3_bucket_object" "object" {
  bucket     = aws_s3_bucket.bucket.id
  key        = "dir/object"
  content    = "first"
  kms_key_id = aws_kms_key.key.arn
  tags       = { owner = data.aws_caller_identity.me.account_id }
}
END
terraform init -no-color > init
terraform apply -no-color -auto-approve > applied
test "$(cat "$MNT/made-by-terraform/dir/object")" = first
kmsfs stat "$MNT/made-by-terraform/dir/object" | grep '"ServerSideEncryption": "aws:kms"' > /dev/null
terraform plan -no-color -detailed-exitcode > plan
touch "$MNT/made-by-terraform/by-a-program"
terraform destroy -no-color -auto-approve > destroyed
test ! -e "$MNT/made-by-terraform"

//! S3's resource names, as they stand in encryption contexts.

/// The pair that S3 itself adds to every encryption context: the ARN of the object, or of the bucket with a bucket key.
pub const CONTEXT_KEY: &str = "aws:s3:arn";

/// `arn:aws:s3:::BUCKET/KEY`
pub fn object(bucket: &str, key: &str) -> String {
    format!("arn:aws:s3:::{bucket}/{key}")
}

/// `arn:aws:s3:::BUCKET`
pub fn bucket(bucket: &str) -> String {
    format!("arn:aws:s3:::{bucket}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn arns_have_s3s_form() {
        assert_eq!(super::object("my-bucket", "a/b c.json"), "arn:aws:s3:::my-bucket/a/b c.json");
        assert_eq!(super::bucket("my-bucket"), "arn:aws:s3:::my-bucket");
    }
}

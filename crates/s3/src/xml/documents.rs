//! The documents of requests.

use super::tree::{Element, malformed};
use crate::error::{Code, Error};
use crate::operation::{CompletedPart, ObjectToDelete};
use crate::{Checksum, ChecksumAlgorithm, ETag, Tags};
use kmsfs_sse::Configuration;

/// `CreateBucketConfiguration`: where the bucket is to be, and its tags.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct CreateBucketConfiguration {
    pub(crate) location: Option<String>,
    pub(crate) tags: Tags,
}

pub(crate) fn create_bucket(body: &[u8]) -> Result<CreateBucketConfiguration, Error> {
    // S3 takes an empty body for a document that says nothing.
    if body.is_empty() {
        return Ok(CreateBucketConfiguration::default());
    }
    let mut root = Fields::of(body, "CreateBucketConfiguration")?;
    let location = root.text("LocationConstraint")?.filter(|location| !location.is_empty());
    // A directory bucket, or one in a local zone.
    if root.take("Location")?.is_some() || root.take("Bucket")?.is_some() {
        return Err(Code::InvalidLocationConstraint.into());
    }
    let tags = root.take("Tags")?.map_or_else(|| Ok(Vec::new()), |tags| read_tags(Fields::within(tags)))?;
    root.end()?;
    Ok(CreateBucketConfiguration { location, tags: Tags::new(tags, Tags::MAX_ON_BUCKET)? })
}

/// `Tagging`
pub(crate) fn tagging(body: &[u8], max: usize) -> Result<Tags, Error> {
    let mut root = Fields::of(body, "Tagging")?;
    let set = root.take("TagSet")?.ok_or_else(malformed)?;
    root.end()?;
    Tags::new(read_tags(Fields::within(set))?, max)
}

fn read_tags(mut set: Fields) -> Result<Vec<(String, String)>, Error> {
    let tags = set.all("Tag");
    set.end()?;
    let pair = |tag: Element| {
        let mut tag = Fields::within(tag);
        let pair = (tag.required("Key")?, tag.required("Value")?);
        tag.end()?;
        Ok(pair)
    };
    tags.into_iter().map(pair).collect()
}

/// `ServerSideEncryptionConfiguration`, which has the JSON form's rules and refusals: it becomes that form.
pub(crate) fn encryption(body: &[u8]) -> Result<Configuration, Error> {
    let mut root = Fields::of(body, "ServerSideEncryptionConfiguration")?;
    let rules: Vec<_> = root.all("Rule").into_iter().map(rule).collect::<Result<_, _>>()?;
    root.end()?;
    let json = serde_json::json!({ "Rules": rules }).to_string();
    Configuration::parse(json.as_bytes()).map_err(|error| {
        let error = Error::from(error);
        // The JSON's message shows what JSON would have to look like.
        if error.code() == &Code::MalformedXML { malformed() } else { error }
    })
}

fn rule(rule: Element) -> Result<serde_json::Value, Error> {
    let mut rule = Fields::within(rule);
    let mut json = serde_json::Map::new();
    if let Some(default) = rule.take("ApplyServerSideEncryptionByDefault")? {
        let mut default = Fields::within(default);
        let mut fields = serde_json::Map::new();
        for name in ["SSEAlgorithm", "KMSMasterKeyID"] {
            fields.extend(default.text(name)?.map(|text| (name.to_owned(), text.into())));
        }
        default.end()?;
        json.insert("ApplyServerSideEncryptionByDefault".into(), fields.into());
    }
    json.extend(rule.flag("BucketKeyEnabled")?.map(|enabled| ("BucketKeyEnabled".to_owned(), enabled.into())));
    if let Some(blocked) = rule.take("BlockedEncryptionTypes")? {
        let mut blocked = Fields::within(blocked);
        let types: Result<Vec<_>, _> = blocked.all("EncryptionType").into_iter().map(text_of).collect();
        blocked.end()?;
        json.insert("BlockedEncryptionTypes".into(), serde_json::json!({ "EncryptionType": types? }));
    }
    rule.end()?;
    Ok(json.into())
}

/// `Delete`: whether the answer is to be quiet, and what is deleted.
pub(crate) fn delete(body: &[u8]) -> Result<(bool, Vec<ObjectToDelete>), Error> {
    /// Amazon S3 API Reference, DeleteObjects.
    const MAX_OBJECTS: usize = 1000;
    let mut root = Fields::of(body, "Delete")?;
    let quiet = root.flag("Quiet")?.unwrap_or(false);
    let objects = root.all("Object");
    root.end()?;
    if !(1..=MAX_OBJECTS).contains(&objects.len()) {
        return Err(malformed());
    }
    Ok((quiet, objects.into_iter().map(object_to_delete).collect::<Result<_, _>>()?))
}

fn object_to_delete(object: Element) -> Result<ObjectToDelete, Error> {
    let mut object = Fields::within(object);
    // Conditions that only directory buckets have.
    if object.take("LastModifiedTime")?.is_some() || object.take("Size")?.is_some() {
        return Err(Code::NotImplemented.into());
    }
    let key = object.required("Key")?;
    let version = object.text("VersionId")?.filter(|version| !version.is_empty());
    let etag = object.text("ETag")?.map(ETag::new);
    object.end()?;
    Ok(ObjectToDelete { key, version, etag })
}

/// `CompleteMultipartUpload`
pub(crate) fn complete(body: &[u8]) -> Result<Vec<CompletedPart>, Error> {
    /// Amazon S3 User Guide, "Amazon S3 multipart upload limits".
    const MAX_PARTS: usize = 10_000;
    let mut root = Fields::of(body, "CompleteMultipartUpload")?;
    let parts = root.all("Part");
    root.end()?;
    if !(1..=MAX_PARTS).contains(&parts.len()) {
        return Err(malformed());
    }
    let parts: Vec<_> = parts.into_iter().map(completed_part).collect::<Result<_, _>>()?;
    if parts.windows(2).all(|two| two[0].number < two[1].number) {
        Ok(parts)
    } else {
        Err(Code::InvalidPartOrder.into())
    }
}

fn completed_part(part: Element) -> Result<CompletedPart, Error> {
    let mut part = Fields::within(part);
    let number = part.required("PartNumber")?;
    let number: u32 = number.trim().parse().map_err(|_| malformed())?;
    if !(1..=10_000).contains(&number) {
        let message = "Part number must be an integer between 1 and 10000, inclusive";
        return Err(Error::argument(message, "partNumber", number.to_string()));
    }
    let etag = ETag::new(part.required("ETag")?.trim());
    let mut checksums = Vec::new();
    for algorithm in ChecksumAlgorithm::ALL {
        let Some(text) = part.text(algorithm.element())? else { continue };
        checksums
            .push(Checksum::parse(algorithm, text.trim()).filter(|sum| sum.parts.is_none()).ok_or_else(malformed)?);
    }
    part.end()?;
    Ok(CompletedPart { number, etag, checksums })
}

/// `ObjectEncryption`: the KMS key's ARN, and whether a bucket key wraps the data key.
pub(crate) fn object_encryption(body: &[u8]) -> Result<(String, bool), Error> {
    let invalid = |message: &str| Error::new(Code::InvalidRequest).saying(message);
    let mut root = Fields::of(body, "ObjectEncryption")?;
    let kms = root.take("SSE-KMS")?;
    if root.take("SSE-S3")?.is_some() || kms.is_none() {
        return Err(invalid(
            "Requests that modify an object encryption configuration require a valid new encryption type. Valid values \
             are SSEKMS. Modify the request to specify SSE-KMS for the updated encryption type, and then try again.",
        ));
    }
    root.end()?;
    let mut kms = Fields::within(kms.ok_or_else(malformed)?);
    let arn = kms.text("KMSKeyArn")?.filter(|arn| !arn.is_empty()).ok_or_else(|| {
        invalid(
            "Requests that modify an object's encryption type to SSE-KMS require an Amazon Web Services KMS key Amazon \
             Resource Name (ARN). Modify the request to specify a KMS key ARN, and then try again.",
        )
    })?;
    if !arn.starts_with("arn:aws:kms:") || !arn.contains(":key/") {
        return Err(invalid(
            "Requests that modify an object's encryption type to SSE-KMS require a valid Amazon Web Services KMS key \
             Amazon Resource Name (ARN). Confirm that you have a correctly formatted KMS key ARN in your request, and \
             then try again.",
        ));
    }
    let bucket_key = kms.flag("BucketKeyEnabled").map_err(|_| {
        invalid(
            "The BucketKeyEnabled value isn't valid. Valid values are true or false. Modify the request to specify a \
             valid value, and then try again.",
        )
    })?;
    kms.end()?;
    Ok((arn, bucket_key.unwrap_or(false)))
}

/// `PublicAccessBlockConfiguration`: whether all four are there and true.
pub(crate) fn blocks_all_public_access(body: &[u8]) -> Result<bool, Error> {
    let mut root = Fields::of(body, "PublicAccessBlockConfiguration")?;
    let mut all = true;
    for name in super::write::PUBLIC_ACCESS {
        all &= root.flag(name)?.unwrap_or(false);
    }
    root.end()?;
    Ok(all)
}

/// `OwnershipControls`: who owns objects, by its one rule.
pub(crate) fn ownership(body: &[u8]) -> Result<String, Error> {
    let mut root = Fields::of(body, "OwnershipControls")?;
    let rule = root.take("Rule")?.ok_or_else(malformed)?;
    root.end()?;
    let mut rule = Fields::within(rule);
    let ownership = rule.required("ObjectOwnership")?;
    rule.end()?;
    Ok(ownership)
}

/// The children of an element that are not read yet.
struct Fields(Vec<Element>);

impl Fields {
    /// Of a document's root, which has that name.
    fn of(body: &[u8], name: &str) -> Result<Self, Error> {
        if body.is_empty() {
            return Err(Code::MissingRequestBodyError.into());
        }
        let root = Element::parse(body)?;
        if root.name != name || root.children.is_empty() && !root.text.trim().is_empty() {
            return Err(malformed());
        }
        Ok(Self::within(root))
    }

    /// White space is as good as nothing; where text stands instead of children, they are missing.
    fn within(element: Element) -> Self {
        Self(element.children)
    }

    /// All of that name.
    fn all(&mut self, name: &str) -> Vec<Element> {
        let (named, others) = std::mem::take(&mut self.0).into_iter().partition(|child| child.name == name);
        self.0 = others;
        named
    }

    /// The one of that name.
    fn take(&mut self, name: &str) -> Result<Option<Element>, Error> {
        let mut all = self.all(name);
        let first = all.pop();
        if all.is_empty() { Ok(first) } else { Err(malformed()) }
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, Error> {
        self.take(name)?.map(text_of).transpose()
    }

    fn required(&mut self, name: &str) -> Result<String, Error> {
        self.text(name)?.ok_or_else(malformed)
    }

    fn flag(&mut self, name: &str) -> Result<Option<bool>, Error> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" => Ok(Some(true)),
            "false" | "0" => Ok(Some(false)),
            _ => Err(malformed()),
        }
    }

    /// Nothing else is there.
    fn end(self) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { Err(malformed()) }
    }
}

fn text_of(element: Element) -> Result<String, Error> {
    if element.children.is_empty() { Ok(element.text) } else { Err(malformed()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmsfs_sse::Algorithm;

    fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> Code {
        result.unwrap_err().code().clone()
    }

    #[test]
    fn a_bucket_can_have_a_place_and_tags() {
        assert_eq!(create_bucket(b"").unwrap(), CreateBucketConfiguration::default());
        let body = "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><LocationConstraint>eu-west-1\
                    </LocationConstraint><Tags><Tag><Key>a</Key><Value>b</Value></Tag></Tags></CreateBucketConfiguration>";
        let configuration = create_bucket(body.as_bytes()).unwrap();
        assert_eq!(configuration.location.as_deref(), Some("eu-west-1"));
        assert_eq!(configuration.tags.pairs(), [("a".to_owned(), "b".to_owned())]);
        let directory = b"<CreateBucketConfiguration><Location><Name>x</Name></Location></CreateBucketConfiguration>";
        assert_eq!(code(create_bucket(directory)), Code::InvalidLocationConstraint);
        assert_eq!(code(create_bucket(b"<Other/>")), Code::MalformedXML);
        assert_eq!(
            code(create_bucket(b"<CreateBucketConfiguration><X/></CreateBucketConfiguration>")),
            Code::MalformedXML
        );
        assert_eq!(
            code(create_bucket(b"<CreateBucketConfiguration>x</CreateBucketConfiguration>")),
            Code::MalformedXML
        );
    }

    #[test]
    fn an_encryption_has_the_same_rules_as_its_json() {
        let body =
            |rule: &str| format!("<ServerSideEncryptionConfiguration>{rule}</ServerSideEncryptionConfiguration>");
        let kms = "<Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>aws:kms</SSEAlgorithm><KMSMasterKeyID>\
                   alias/x</KMSMasterKeyID></ApplyServerSideEncryptionByDefault><BucketKeyEnabled>true</BucketKeyEnabled>\
                   <BlockedEncryptionTypes><EncryptionType>SSE-C</EncryptionType></BlockedEncryptionTypes></Rule>";
        let configuration = encryption(body(kms).as_bytes()).unwrap();
        assert_eq!(configuration.encryption().algorithm, Algorithm::AwsKms);
        assert_eq!(configuration.encryption().key_id.as_deref(), Some("alias/x"));
        assert!(configuration.encryption().bucket_key);
        assert_eq!(
            configuration.to_json()["Rules"][0]["BlockedEncryptionTypes"],
            serde_json::json!({"EncryptionType": ["SSE-C"]})
        );
        let aes = "<Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm><KMSMasterKeyID>x\
                   </KMSMasterKeyID></ApplyServerSideEncryptionByDefault></Rule>";
        let error = encryption(body(aes).as_bytes()).unwrap_err();
        assert_eq!(error.code(), &Code::InvalidArgument);
        assert!(error.message().starts_with("a KMSMasterKeyID is not applicable"));
        for wrong in [
            "",
            "<Rule/>",
            &format!("{kms}{kms}"),
            "<Rule><ApplyServerSideEncryptionByDefault/></Rule>",
            "<Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>rot13</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule>",
            "<Rules/>",
        ] {
            let error = encryption(body(wrong).as_bytes()).unwrap_err();
            assert_eq!((error.code(), error.message()), (&Code::MalformedXML, Code::MalformedXML.message()), "{wrong}");
        }
        assert_eq!(code(encryption(b"")), Code::MissingRequestBodyError);
    }

    #[test]
    fn up_to_a_thousand_objects_are_deleted() {
        let body = "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Object><Key> a&amp;b </Key><VersionId>null\
                    </VersionId><ETag>\"x\"</ETag></Object><Object><Key></Key></Object><Quiet>true</Quiet></Delete>";
        let (quiet, objects) = delete(body.as_bytes()).unwrap();
        assert!(quiet);
        assert_eq!((objects[0].key.as_str(), objects[0].version.as_deref()), (" a&b ", Some("null")));
        assert_eq!(objects[0].etag, Some(ETag::new("x")));
        assert_eq!(objects[1].key, "", "which is this object's own mistake");
        let many = |n| format!("<Delete>{}</Delete>", "<Object><Key>k</Key></Object>".repeat(n));
        assert_eq!(delete(many(1000).as_bytes()).unwrap().1.len(), 1000);
        for wrong in [
            many(0),
            many(1001),
            "<Delete><Object/></Delete>".into(),
            "<Delete><Object><Key><b/></Key></Object></Delete>".into(),
            "<Delete><Object><Key>k</Key><Key>k</Key></Object></Delete>".into(),
            "<Delete><Object><Key>k</Key></Object><Quiet>yes</Quiet></Delete>".into(),
            "<delete><Object><Key>k</Key></Object></delete>".into(),
        ] {
            assert_eq!(code(delete(wrong.as_bytes())), Code::MalformedXML);
        }
        let size = b"<Delete><Object><Key>k</Key><Size>1</Size></Object></Delete>";
        assert_eq!(code(delete(size)), Code::NotImplemented);
    }

    #[test]
    fn parts_come_in_their_order() {
        let part =
            |n: u32, more: &str| format!("<Part><PartNumber>{n}</PartNumber><ETag>&quot;e&quot;</ETag>{more}</Part>");
        let body = |parts: &str| format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        let crc = "<ChecksumCRC32>AAAAAA==</ChecksumCRC32>";
        let parts = complete(body(&(part(1, crc) + &part(3, ""))).as_bytes()).unwrap();
        assert_eq!((parts[0].number, parts[1].number, &parts[0].etag), (1, 3, &ETag::new("e")));
        assert_eq!(parts[0].checksums, [Checksum::of_bytes(ChecksumAlgorithm::Crc32, vec![0; 4])]);
        assert_eq!(code(complete(body(&(part(2, "") + &part(1, ""))).as_bytes())), Code::InvalidPartOrder);
        assert_eq!(code(complete(body(&(part(1, "") + &part(1, ""))).as_bytes())), Code::InvalidPartOrder);
        assert_eq!(code(complete(body(&part(0, "")).as_bytes())), Code::InvalidArgument);
        assert_eq!(code(complete(body(&part(10_001, "")).as_bytes())), Code::InvalidArgument);
        for wrong in [
            "",
            "<Part/>",
            &part(1, "<ChecksumCRC32>x</ChecksumCRC32>"),
            &part(1, "<ChecksumCRC32>AAAAAA==-2</ChecksumCRC32>"),
        ] {
            assert_eq!(code(complete(body(wrong).as_bytes())), Code::MalformedXML, "{wrong}");
        }
        let all: String = (1..=10_000).map(|n| part(n, crc)).collect();
        assert_eq!(complete(body(&all).as_bytes()).unwrap().len(), 10_000);
        let many: String = (1..=10_001).map(|n| part(n, "")).collect();
        assert_eq!(code(complete(body(&many).as_bytes())), Code::MalformedXML);
    }

    #[test]
    fn tags_have_their_limits() {
        let body = b"<Tagging><TagSet><Tag><Key>a</Key><Value></Value></Tag></TagSet></Tagging>";
        assert_eq!(tagging(body, Tags::MAX_ON_OBJECT).unwrap().pairs(), [("a".to_owned(), String::new())]);
        assert!(tagging(b"<Tagging><TagSet/></Tagging>", 10).unwrap().is_empty());
        for wrong in [&b"<Tagging/>"[..], b"<Tagging><TagSet><Tag><Key>a</Key></Tag></TagSet></Tagging>"] {
            assert_eq!(code(tagging(wrong, 10)), Code::MalformedXML);
        }
    }

    #[test]
    fn an_object_is_rewrapped_under_a_key_by_its_arn() {
        let body = |kms: &str| format!("<ObjectEncryption><SSE-KMS>{kms}</SSE-KMS></ObjectEncryption>");
        let arn = "<KMSKeyArn>arn:aws:kms:us-east-1:1:key/k</KMSKeyArn>";
        let parsed = object_encryption(body(&format!("{arn}<BucketKeyEnabled>true</BucketKeyEnabled>")).as_bytes());
        assert_eq!(parsed.unwrap(), ("arn:aws:kms:us-east-1:1:key/k".to_owned(), true));
        assert!(!object_encryption(body(arn).as_bytes()).unwrap().1);
        for wrong in ["", "<KMSKeyArn>alias/x</KMSKeyArn>", &format!("{arn}<BucketKeyEnabled>x</BucketKeyEnabled>")] {
            assert_eq!(code(object_encryption(body(wrong).as_bytes())), Code::InvalidRequest, "{wrong}");
        }
        assert_eq!(code(object_encryption(b"<ObjectEncryption><SSE-S3/></ObjectEncryption>")), Code::InvalidRequest);
    }

    #[test]
    fn what_is_so_in_any_case_can_be_asked_for() {
        let all = "<BlockPublicAcls>true</BlockPublicAcls><IgnorePublicAcls>TRUE</IgnorePublicAcls><BlockPublicPolicy>1\
                   </BlockPublicPolicy><RestrictPublicBuckets>true</RestrictPublicBuckets>";
        let body = |fields: &str| format!("<PublicAccessBlockConfiguration>{fields}</PublicAccessBlockConfiguration>");
        assert!(blocks_all_public_access(body(all).as_bytes()).unwrap());
        assert!(!blocks_all_public_access(body("").as_bytes()).unwrap());
        assert!(!blocks_all_public_access(body(&all.replace("true", "false")).as_bytes()).unwrap());
        let rule =
            b"<OwnershipControls><Rule><ObjectOwnership>ObjectWriter</ObjectOwnership></Rule></OwnershipControls>";
        assert_eq!(ownership(rule).unwrap(), "ObjectWriter");
    }
}

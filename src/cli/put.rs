//! `kmsfs put`: one atomic PUT of an object into a mount, with the encryption that the request asks for.

use super::exit::{Failure, describe};
use super::mountpoint;
use super::stat::Encryption;
use super::text::shown;
use super::{threads, xattr};
use clap::Args;
use kmsfs_crypto::random;
use kmsfs_fs::PUT_PREFIX;
use kmsfs_sse::{Request, RequestError, request};
use kmsfs_sys::Signals;
use rustix::fs::{XattrFlags, fsetxattr};
use serde_json::{Map, Value};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// One request to the mount carries this much, wherever in a page the buffer begins.
const COPY_SIZE: usize = 512 << 10;

const ALGORITHMS: [&str; 3] = ["AES256", "aws:kms", "aws:kms:dsse"];

/// Put an object into a mount, with the encryption of your choice
///
/// Others see the old object or the whole new one, never a part. Without options the object is
/// encrypted as a copied file would be: as the nearest .encryption.json says, else AES256. Prints what
/// S3's PutObject answers.
#[derive(Args)]
#[command(verbatim_doc_comment, after_help = EXAMPLES)]
pub struct PutArgs {
    /// Encryption of this object
    #[arg(long, value_name = "ALG", value_parser = ALGORITHMS)]
    server_side_encryption: Option<String>,
    /// Key id, key ARN, alias or alias ARN; without it aws:kms means aws/s3
    #[arg(long, value_name = "ID")]
    ssekms_key_id: Option<String>,
    /// Base64 of a JSON object of strings, bound to the data key
    #[arg(long, value_name = "B64")]
    ssekms_encryption_context: Option<String>,
    /// Wrap the data key under a bucket key
    #[arg(long, overrides_with = "no_bucket_key_enabled")]
    bucket_key_enabled: bool,
    /// Do not, even where the default says so
    #[arg(long)]
    no_bucket_key_enabled: bool,
    /// What to put; `-` is standard input
    file: PathBuf,
    /// The object's path in the mount
    #[arg(value_name = "PATH-IN-MOUNT")]
    path: PathBuf,
}

const EXAMPLES: &str = "\
Examples:
  kmsfs put bond.json /mnt/my-bucket/bond.json
  kmsfs put --server-side-encryption aws:kms bond.json /mnt/my-bucket/bond.json
  kmsfs put --server-side-encryption aws:kms --ssekms-key-id alias/my-key bond.json /mnt/my-bucket/bond.json
  tar c src | kmsfs put --server-side-encryption AES256 - /mnt/my-bucket/src.tar";

/// Puts the object and prints the answer.
pub fn run(args: PutArgs) -> Result<ExitCode, Failure> {
    let request = args.request()?;
    let source = Source::open(&args.file)?;
    let target = Target::find(&args.path)?;
    let temporary = Temporary::create(&target, &request)?;
    let encryption = temporary.fill(source)?;
    let answer = answer(&encryption);
    temporary.publish(&target)?;
    print!("{}", super::text::pretty(&answer));
    Ok(ExitCode::SUCCESS)
}

impl PutArgs {
    /// The request's headers, checked as S3 checks them before it looks at any key.
    fn request(&self) -> Result<Request, Failure> {
        let bucket_key = match (self.bucket_key_enabled, self.no_bucket_key_enabled) {
            (true, _) => Some("true"),
            (_, true) => Some("false"),
            _ => None,
        };
        let headers = [
            (request::ALGORITHM, self.server_side_encryption.as_deref()),
            (request::KEY_ID, self.ssekms_key_id.as_deref()),
            (request::CONTEXT, self.ssekms_encryption_context.as_deref()),
            (request::BUCKET_KEY_ENABLED, bucket_key),
        ];
        let mut request = Request::default();
        for (name, value) in headers {
            value.map_or(Ok(()), |value| request.set_header(name, value)).map_err(refusal)?;
        }
        request.check().map_err(refusal)?;
        Ok(request)
    }
}

/// As `aws` words it.
fn refusal(error: RequestError) -> Failure {
    match error {
        RequestError::Invalid { code, message } => refused(code, &message),
        error @ RequestError::Kms(_) => Failure::new(error.to_string()),
    }
}

/// System calls answer a number only.
const SEE_LOG: &str = "the reason is in the mount's log";

/// As `aws` words it.
fn refused(code: &str, message: &str) -> Failure {
    Failure::new(format!("An error occurred ({code}) when calling the PutObject operation: {message}"))
}

enum Source {
    Stdin(io::Stdin),
    File(File),
}

impl Source {
    fn open(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") {
            return Ok(Source::Stdin(io::stdin()));
        }
        let failed = |e: io::Error| Failure::new(format!("{}: {}", shown(path), describe(&e)));
        let file = File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.is_dir() {
            return Err(failed(io::Error::from_raw_os_error(libc::EISDIR)));
        }
        Ok(Source::File(file))
    }

    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Source::Stdin(stdin) => stdin.read(buf),
            Source::File(file) => file.read(buf),
        }
    }
}

/// Where the object goes, in a directory of a kmsfs mount.
struct Target {
    directory: PathBuf,
    path: PathBuf,
    /// Of the object that is there.
    mode: Option<u32>,
}

impl Target {
    fn find(path: &Path) -> Result<Self, Failure> {
        let failed = |e: &io::Error| Failure::new(format!("{}: {}", shown(path), describe(e)));
        let mode = match fs::symlink_metadata(path) {
            Ok(old) if old.is_dir() => return Err(failed(&io::Error::from_raw_os_error(libc::EISDIR))),
            Ok(old) if old.is_file() => Some(old.permissions().mode() & 0o777),
            Ok(_) => None,
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(failed(&e)),
        };
        if path.file_name().is_none() || path.as_os_str().as_encoded_bytes().ends_with(b"/") {
            return Err(failed(&io::Error::from_raw_os_error(libc::EISDIR)));
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let directory =
            fs::canonicalize(parent).map_err(|e| Failure::new(format!("{}: {}", shown(parent), describe(&e))))?;
        let mount = mountpoint::kmsfs_of(&directory).map_err(|e| failed(&e))?;
        let mount = mount.ok_or_else(|| Failure::new(format!("{} is not in a kmsfs mount", shown(path))))?;
        if mount.target == directory {
            return Err(Failure::new(format!(
                "{}: an object lies in a bucket, a directory of {}",
                shown(path),
                shown(&directory)
            )));
        }
        let path = directory.join(path.file_name().unwrap_or_default());
        Ok(Self { directory, path, mode })
    }
}

/// The object under a name of its own, until it is complete. Dropped or interrupted before that, it is removed.
struct Temporary {
    path: PathBuf,
    object: File,
    /// What it has once it is complete: the old one's mode, else that of any new file.
    mode: u32,
    published: bool,
}

impl Temporary {
    /// Made as any file is, and given its request while it is empty.
    fn create(target: &Target, request: &Request) -> Result<Self, Failure> {
        let path = target.directory.join(temporary_name(&target.path));
        let failed = |e: io::Error| Failure::new(format!("{}: {}", shown(&target.path), describe(&e)));
        // From here on a signal removes the object before it ends the process.
        remove_on_signal(&path).map_err(|e| Failure::new(describe(&e)))?;
        // Past the kernel's cache, which would hand the content on in any order.
        let mut how = OpenOptions::new();
        how.write(true).create_new(true).mode(0o666).custom_flags(libc::O_DIRECT);
        let object = how.open(&path).map_err(failed)?;
        let mut made = Self { path, object, mode: 0, published: false };
        let mode = made.object.metadata().map_err(failed)?.permissions().mode() & 0o777;
        made.mode = target.mode.unwrap_or(mode);
        if mode & 0o200 == 0 {
            // An attribute is for whoever may write by the mode.
            made.set_mode(mode | 0o200).map_err(failed)?;
        }
        let request = serde_json::to_vec(request).map_err(|e| failed(e.into()))?;
        fsetxattr(&made.object, xattr::REQUEST, &request, XattrFlags::empty())
            .map_err(|e| explain_request(target, &e.into()))?;
        Ok(made)
    }

    fn set_mode(&self, mode: u32) -> io::Result<()> {
        self.object.set_permissions(fs::Permissions::from_mode(mode))
    }

    /// Copies the content, has the mount make it durable, and answers how it is encrypted.
    fn fill(&self, mut source: Source) -> Result<Encryption, Failure> {
        let failed = |e: io::Error| Failure::new(format!("{}: {}", shown(&self.path), describe(&e)));
        let mut buf = vec![0; COPY_SIZE];
        loop {
            let len = match source.read(&mut buf) {
                Ok(0) => break,
                Ok(len) => len,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(Failure::new(format!("cannot read what is to be put: {}", describe(&e)))),
            };
            (&self.object).write_all(&buf[..len]).map_err(failed)?;
        }
        if self.object.metadata().map_err(failed)?.permissions().mode() & 0o777 != self.mode {
            self.set_mode(self.mode).map_err(failed)?;
        }
        self.object.sync_all().map_err(failed)?;
        Encryption::of(&self.path).map_err(failed)
    }

    fn publish(mut self, target: &Target) -> Result<(), Failure> {
        let failed = |e: io::Error| Failure::new(format!("{}: {}", shown(&target.path), describe(&e)));
        fs::rename(&self.path, &target.path).map_err(|e| match e.raw_os_error() {
            // A configuration is judged when it is put in place.
            Some(libc::EINVAL) => refused("InvalidArgument", &format!("it cannot be put in place; {SEE_LOG}")),
            _ => failed(e),
        })?;
        self.published = true;
        File::open(&target.directory).and_then(|directory| directory.sync_all()).map_err(failed)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.published {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Once the object has its final name there is nothing to remove, and ending is as good as going on.
fn remove_on_signal(path: &Path) -> io::Result<()> {
    let signals = Signals::block(&[libc::SIGINT, libc::SIGTERM, libc::SIGHUP])?;
    let path = path.to_owned();
    let waiting = move || {
        if let Ok(signal) = signals.wait() {
            let _ = fs::remove_file(&path);
            std::process::exit(128 + signal);
        }
    };
    threads::start("signals", waiting).map(drop)
}

/// It says what it is for, which is the object's name in the encryption context, unless that makes it too long.
fn temporary_name(path: &Path) -> OsString {
    let mut name = OsString::from(format!("{PUT_PREFIX}{:016x}", u64::from_le_bytes(random::bytes())));
    let target = path.file_name().unwrap_or_default();
    if name.len() + 1 + target.len() <= kmsfs_fs::NAME_MAX {
        name.push(".");
        name.push(target);
    }
    name
}

/// The mount answers with an errno, and says in its log what S3 would say.
fn explain_request(target: &Target, error: &io::Error) -> Failure {
    match error.raw_os_error() {
        Some(libc::EACCES) => refused(
            "AccessDenied",
            &format!("the KMS key is disabled, pending deletion or not yours to use; {SEE_LOG}"),
        ),
        Some(libc::ENOKEY) => refused("KMS.NotFoundException", &format!("there is no such KMS key; {SEE_LOG}")),
        Some(libc::EINVAL) => refused("InvalidArgument", &format!("the request cannot be met; {SEE_LOG}")),
        Some(libc::EOPNOTSUPP | libc::ENODATA) => {
            refused("NotImplemented", &format!("the mount does not do this; {SEE_LOG}"))
        }
        _ => Failure::new(format!("{}: {}", shown(&target.path), describe(error))),
    }
}

/// PutObject's answer.
fn answer(encryption: &Encryption) -> Value {
    let mut answer = Map::new();
    answer.insert("ETag".into(), encryption.quoted_etag().into());
    encryption.add_to(&mut answer);
    Value::Object(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use serde_json::json;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        put: PutArgs,
    }

    fn request(words: &[&str]) -> Result<Value, String> {
        let line = Line::try_parse_from([&["put"], words, &["f", "/mnt/b/k"]].concat()).unwrap();
        line.put.request().map(|request| json!(request)).map_err(|failure| failure.message)
    }

    #[test]
    fn a_request_has_the_members_that_were_asked_for_and_no_others() {
        assert_eq!(request(&[]), Ok(json!({})));
        let sse = |alg| json!({"ServerSideEncryption": alg});
        assert_eq!(request(&["--server-side-encryption", "aws:kms"]), Ok(sse("aws:kms")));
        assert_eq!(request(&["--server-side-encryption", "AES256"]), Ok(sse("AES256")));
        let all = request(&[
            "--server-side-encryption",
            "aws:kms",
            "--ssekms-key-id",
            "alias/k",
            "--ssekms-encryption-context",
            "eyJhIjoiYiJ9",
            "--bucket-key-enabled",
        ]);
        let expected = json!({"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "alias/k",
            "SSEKMSEncryptionContext": "eyJhIjoiYiJ9", "BucketKeyEnabled": true});
        assert_eq!(all, Ok(expected));
        assert_eq!(request(&["--no-bucket-key-enabled"]), Ok(json!({"BucketKeyEnabled": false})));
    }

    #[test]
    fn a_key_id_without_aws_kms_is_refused_in_the_words_of_s3() {
        let message = "An error occurred (InvalidArgument) when calling the PutObject operation: Server Side Encryption \
                       with AWS KMS managed key requires HTTP header x-amz-server-side-encryption : aws:kms";
        assert_eq!(request(&["--ssekms-key-id", "alias/k"]), Err(message.into()));
        let with_aes256 = request(&["--server-side-encryption", "AES256", "--ssekms-key-id", "alias/k"]);
        assert_eq!(with_aes256, Err(message.into()));
    }

    #[test]
    fn a_context_is_base64_of_json_with_strings() {
        let with = |context| request(&["--server-side-encryption", "aws:kms", "--ssekms-encryption-context", context]);
        assert!(with("eyJhIjoiYiJ9").is_ok());
        for bad in ["{\"a\":\"b\"}", "bm8ganNvbg==", "eyJhIjoxfQ==", "W10="] {
            assert!(with(bad).unwrap_err().contains("(InvalidArgument)"), "{bad}");
        }
    }

    #[test]
    fn outside_a_mount_nothing_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        let message = Target::find(&path).err().unwrap().message;
        assert_eq!(message, format!("{} is not in a kmsfs mount", path.display()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_is_no_target() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Target::find(dir.path()).err().unwrap().message.ends_with("Is a directory"));
        assert!(Target::find(&dir.path().join("new/")).err().unwrap().message.ends_with("Is a directory"));
    }

    #[test]
    fn the_answer_has_the_form_of_put_object() {
        let kms = Encryption {
            etag: "056a".into(),
            algorithm: "aws:kms".into(),
            key_arn: Some("arn:aws:kms:us-west-2:123456789123:key/1f19".into()),
            bucket_key: false,
        };
        let text = "{\n    \"ETag\": \"\\\"056a\\\"\",\n    \"ServerSideEncryption\": \"aws:kms\",\n    \
                    \"SSEKMSKeyId\": \"arn:aws:kms:us-west-2:123456789123:key/1f19\"\n}\n";
        assert_eq!(super::super::text::pretty(&answer(&kms)), text);
        let aes = Encryption { etag: "e".into(), algorithm: "AES256".into(), key_arn: None, bucket_key: false };
        assert_eq!(answer(&aes), json!({"ETag": "\"e\"", "ServerSideEncryption": "AES256"}));
        let bucket_key = Encryption { bucket_key: true, ..kms };
        assert_eq!(answer(&bucket_key)["BucketKeyEnabled"], json!(true));
    }
}

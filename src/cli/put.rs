//! `kmsfs put`: the arguments and the output of one PUT of an object into a mount.

use super::aws::{Ending, end, print};
use super::exit::{Failure, describe};
use super::stat::encryption_members;
use super::text::{escape, shown};
use super::threads;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kmsfs_client::{Put, PutError, Refused, Stored};
use kmsfs_sse::{Request, RequestError, request};
use kmsfs_sys::Signals;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Shorter ones show no progress.
const WORTH_SHOWING: Duration = Duration::from_secs(1);
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
    /// Print nothing, and show no progress
    #[arg(long, short)]
    quiet: bool,
    /// What to put; `-` is standard input
    file: PathBuf,
    /// The object's path in the mount, or a directory there that it is to be in
    #[arg(value_name = "PATH-IN-MOUNT")]
    path: PathBuf,
}

const EXAMPLES: &str = "\
Examples:
  kmsfs put bond.json /mnt/my-bucket/bond.json
  kmsfs put --server-side-encryption aws:kms bond.json /mnt/my-bucket/bond.json
  kmsfs put --server-side-encryption aws:kms --ssekms-key-id alias/my-key bond.json /mnt/my-bucket/bond.json
  kmsfs put --quiet bond.json /mnt/my-bucket/
  tar c src | kmsfs put --server-side-encryption AES256 - /mnt/my-bucket/src.tar";

/// Puts the object and prints what S3's PutObject would return. Exit codes are those of `aws`.
pub fn run(args: PutArgs) -> ExitCode {
    end(put(&args))
}

fn put(args: &PutArgs) -> Result<(), Ending> {
    let request = args.request()?;
    let path = args.object()?;
    let content = open(&args.file, args.quiet)?;
    let put = Put::new(&path, request).map_err(failure)?;
    // From here on a signal removes the object before it ends the process.
    remove_on_signal(put.temporary()).map_err(|e| Failure::new(describe(&e)))?;
    let stored = put.send(content).map_err(failure)?;
    if args.quiet { Ok(()) } else { Ok(print(Some(&answer(&stored)))?) }
}

impl PutArgs {
    /// The request's headers, checked as S3 checks them before it looks at any key.
    fn request(&self) -> Result<Request, Ending> {
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
            value.map_or(Ok(()), |value| request.set_header(name, value)).map_err(|error| failure(error.into()))?;
        }
        request.check().map_err(|error| failure(error.into()))?;
        Ok(request)
    }

    /// In a directory the object has the name of what is put.
    fn object(&self) -> Result<Cow<'_, Path>, Failure> {
        if !self.path.is_dir() {
            return Ok(Cow::Borrowed(&self.path));
        }
        match self.file.file_name() {
            Some(name) if self.file != Path::new("-") => Ok(Cow::Owned(self.path.join(name))),
            _ => {
                let text = format!("{} is a directory: say what the object in it is to be called", shown(&self.path));
                Err(Failure::usage(text))
            }
        }
    }
}

/// The line for standard error: what S3 refuses as `aws` words it, and of a system call what it was about and its
/// errno.
fn failure(error: PutError) -> Ending {
    match &error {
        PutError::Request(RequestError::Invalid { code, message }) => refused(code, message),
        PutError::Told { refused: Refused { code, message }, .. } => refused(code, message),
        PutError::Refused { refusal, .. } => refused(refusal.code(), refusal.message()),
        PutError::Content(source) => Failure::new(format!("{error}: {}", describe(source))).into(),
        PutError::Os { path, source } => Failure::new(format!("{}: {}", shown(path), describe(source))).into(),
        PutError::Request(RequestError::Kms(_) | RequestError::WouldWait(_)) => Failure::new(error.to_string()).into(),
        PutError::NotInMount { .. } | PutError::NotInBucket { .. } => Failure::new(escape(&error.to_string())).into(),
    }
}

/// As `aws` words it.
fn refused(code: &str, message: &str) -> Ending {
    Ending::Refused { operation: "PutObject", code: code.to_owned().into(), message: message.to_owned() }
}

/// What is to be put; `-` is standard input.
fn open(path: &Path, quiet: bool) -> Result<Box<dyn Read>, Failure> {
    if path == Path::new("-") {
        return Ok(watched(io::stdin(), None, quiet));
    }
    let failed = |e: io::Error| Failure::new(format!("{}: {}", shown(path), describe(&e)));
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(failed(io::Error::from_raw_os_error(libc::EISDIR)));
    }
    let length = metadata.is_file().then_some(metadata.len());
    Ok(watched(file, length, quiet))
}

/// What is read, with its progress on a terminal once it has taken a second.
struct Watched<R> {
    content: R,
    length: Option<u64>,
    read: u64,
    since: Instant,
    /// Without one where it is not to be shown.
    bar: Option<ProgressBar>,
}

fn watched(content: impl Read + 'static, length: Option<u64>, quiet: bool) -> Box<dyn Read> {
    if quiet {
        return Box::new(content);
    }
    Box::new(Watched { content, length, read: 0, since: Instant::now(), bar: None })
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.content.read(buffer)?;
        self.read += read as u64;
        if self.bar.is_none() && self.since.elapsed() >= WORTH_SHOWING {
            // Draws nothing unless standard error is a terminal.
            let bar = ProgressBar::with_draw_target(self.length, ProgressDrawTarget::stderr_with_hz(10));
            let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
            self.bar = Some(style.map_or(bar.clone(), |style| bar.with_style(style)));
        }
        if let Some(bar) = &self.bar {
            bar.set_position(self.read);
        }
        Ok(read)
    }
}

impl<R> Drop for Watched<R> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
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

/// What PutObject returns, as JSON.
fn answer(stored: &Stored) -> Value {
    let mut answer = Map::new();
    answer.insert("ETag".into(), stored.quoted_etag().into());
    answer.extend(encryption_members(stored));
    Value::Object(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use kmsfs_sse::Algorithm;
    use serde_json::json;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        put: PutArgs,
    }

    fn request(words: &[&str]) -> Result<Value, String> {
        let line = Line::try_parse_from([&["put"], words, &["f", "/mnt/b/k"]].concat()).unwrap();
        line.put.request().map(|request| json!(request)).map_err(|ending| ending.text().trim_start().to_owned())
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
    fn a_path_that_is_no_place_for_an_object_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &Path| failure(Put::new(path, Request::default()).unwrap_err()).text();
        let path = dir.path().join("k\n");
        assert_eq!(put(&path), format!("kmsfs: {} is not in a kmsfs mount", shown(&path)));
        assert_eq!(put(dir.path()), format!("kmsfs: {}: Is a directory", dir.path().display()));
    }

    #[test]
    fn the_answer_has_the_form_of_put_object() {
        let kms = Stored {
            etag: "056a".into(),
            algorithm: Algorithm::AwsKms,
            key_arn: Some("arn:aws:kms:us-west-2:123456789123:key/1f19".into()),
            bucket_key: false,
        };
        let text = "{\n    \"ETag\": \"\\\"056a\\\"\",\n    \"ServerSideEncryption\": \"aws:kms\",\n    \
                    \"SSEKMSKeyId\": \"arn:aws:kms:us-west-2:123456789123:key/1f19\"\n}\n";
        assert_eq!(super::super::text::pretty(&answer(&kms)), text);
        let aes = Stored { etag: "e".into(), algorithm: Algorithm::Aes256, key_arn: None, bucket_key: false };
        assert_eq!(answer(&aes), json!({"ETag": "\"e\"", "ServerSideEncryption": "AES256"}));
        let bucket_key = Stored { bucket_key: true, ..kms };
        assert_eq!(answer(&bucket_key)["BucketKeyEnabled"], json!(true));
    }
}

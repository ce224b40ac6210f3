//! Uploads in parts.

use super::client::{plain_get, plain_list, plain_put};
use super::{Client, bucket_name, key};
use crate::harness::{KMS, Store, configuration, names_in, noise};
use kmsfs_gateway::Body;
use kmsfs_gateway::wire::{Request, Response};
use kmsfs_s3::answer::{Attributes, Parts, Uploads, Written};
use kmsfs_s3::operation::{
    AbortMultipartUpload, Attributes as Wanted, CompleteMultipartUpload, CompletedPart, CopySource,
    CreateMultipartUpload, DeleteBucket, GetObject, GetObjectAttributes, ListMultipartUploads, ListParts, UploadPart,
    UploadPartCopy,
};
use kmsfs_s3::{
    Answer, Checksum, ChecksumAlgorithm, ChecksumType, Code, ETag, Error, Metadata, Preconditions, StorageClass, Tags,
    UploadId, WriteCondition,
};
use kmsfs_sse::{Algorithm, Request as Encryption};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::Path;

const PART: usize = 5 << 20;

pub fn begin(
    client: &Client,
    of: &str,
    checksum: Option<(ChecksumAlgorithm, ChecksumType)>,
) -> Result<UploadId, Error> {
    let (answer, _) = client.perform(CreateMultipartUpload {
        bucket: bucket_name("bucket"),
        key: key(of),
        encryption: Encryption::default(),
        metadata: Metadata { content_type: Some("text/plain".into()), ..Metadata::default() },
        storage_class: StorageClass::Standard,
        tags: Tags::default(),
        checksum,
    })?;
    let Answer::Upload(upload) = answer else { panic!("{answer:?}") };
    Ok(upload.upload_id)
}

fn part(of: &str, id: &UploadId, number: u32, length: usize) -> UploadPart {
    UploadPart {
        bucket: bucket_name("bucket"),
        key: key(of),
        upload_id: id.clone(),
        part_number: number,
        length: length as u64,
        checksum: None,
        content_md5: None,
    }
}

fn send_as(client: &Client, part: UploadPart, content: &[u8], checksum: Option<Checksum>) -> Result<Written, Error> {
    let (response, file) = client.ask(&Request::Begin(Box::new(part.into())))?;
    let Response::Begun { upload, wants_md5 } = response else { panic!("{response:?}") };
    std::io::Write::write_all(&mut fs::File::from(file.unwrap()), content).unwrap();
    // No MD5, but what the process that speaks HTTP says that it is.
    let md5 = wants_md5.then(|| Sha256::digest(content)[..16].try_into().unwrap());
    let (response, _) =
        client.ask(&Request::Finish { upload, body: Body { length: content.len() as u64, md5, checksum } })?;
    let Response::Done(answer) = response else { panic!("{response:?}") };
    let Answer::Written(written) = *answer else { panic!("{answer:?}") };
    Ok(written)
}

pub fn send(client: &Client, of: &str, id: &UploadId, number: u32, content: &[u8]) -> CompletedPart {
    let written = send_as(client, part(of, id, number, content.len()), content, None).unwrap();
    CompletedPart { number, etag: written.etag, checksums: Vec::new() }
}

pub fn complete(of: &str, id: &UploadId, parts: &[CompletedPart]) -> CompleteMultipartUpload {
    CompleteMultipartUpload {
        bucket: bucket_name("bucket"),
        key: key(of),
        upload_id: id.clone(),
        parts: parts.to_vec(),
        checksum: None,
        checksum_type: None,
        object_size: None,
        condition: None,
    }
}

pub fn written(client: &Client, of: CompleteMultipartUpload) -> Result<Written, Error> {
    let (answer, _) = client.perform(of)?;
    let Answer::Written(written) = answer else { panic!("{answer:?}") };
    Ok(written)
}

pub fn list_parts(client: &Client, of: &str, id: &UploadId, behind: u32, max_parts: u32) -> Result<Parts, Error> {
    let (bucket, upload_id) = (bucket_name("bucket"), id.clone());
    let (answer, _) =
        client.perform(ListParts { bucket, key: key(of), upload_id, part_number_marker: behind, max_parts })?;
    let Answer::Parts(parts) = answer else { panic!("{answer:?}") };
    Ok(*parts)
}

fn list(
    client: &Client,
    prefix: &str,
    delimiter: &str,
    behind: (&str, Option<&UploadId>),
    max_uploads: u32,
) -> Uploads {
    let list = ListMultipartUploads {
        bucket: bucket_name("bucket"),
        prefix: prefix.into(),
        delimiter: delimiter.into(),
        key_marker: behind.0.into(),
        upload_id_marker: behind.1.cloned(),
        max_uploads,
        url_encoded: false,
    };
    let (answer, _) = client.perform(list).unwrap();
    let Answer::Uploads(uploads) = answer else { panic!("{answer:?}") };
    uploads
}

/// What is in root's directory of uploads; nothing where there is none.
fn left(bucket: &Path) -> Vec<std::ffi::OsString> {
    let dir = bucket.join(".kmsfs-uploads.0");
    if dir.exists() { names_in(&dir) } else { Vec::new() }
}

#[test]
fn an_object_is_its_parts_in_whatever_order_they_come() {
    let store = Store::on_tmpfs();
    let mount = store.mount();
    let client = Client::new(&store);
    client.create_bucket("bucket").unwrap();
    let content = noise(1, 3 * PART + 1234);
    let pieces: Vec<&[u8]> = content.chunks(PART).collect();
    // The last one first decides upon the size of parts, or not; one is sent again, with other bytes before.
    for order in [vec![1, 2, 3, 4], vec![4, 3, 1, 2], vec![2, 4, 1, 3]] {
        let of = format!("made/by/{order:?}");
        let id = begin(&client, &of, None).unwrap();
        assert!(client.head("bucket", &of).is_err());
        assert_eq!(client.keys(&plain_list("bucket"), 10).iter().filter(|key| **key == of).count(), 0);
        send(&client, &of, &id, 2, &noise(9, PART));
        let mut parts: Vec<_> =
            order.iter().map(|&number| send(&client, &of, &id, number, pieces[number as usize - 1])).collect();
        parts.sort_by_key(|part| part.number);
        let done = written(&client, complete(&of, &id, &parts)).unwrap();
        assert!(done.etag.as_str().len() == 34 && done.etag.as_str().ends_with("-4"), "{}", done.etag);
        let (object, read) = client.get("bucket", &of).unwrap();
        assert!(read == content, "{order:?}");
        assert_eq!((&object.etag, object.metadata.content_type.as_deref()), (&done.etag, Some("text/plain")));
        assert!(fs::read(mount.path("bucket").join(&of)).unwrap() == content);
        // Asked for again it is done already, with the same answer.
        let again = written(&client, complete(&of, &id, &parts)).unwrap();
        assert_eq!((again.etag, again.encryption), (done.etag, done.encryption));
        let second = client.get_as(GetObject { part_number: Some(2), ..plain_get("bucket", &of) }).unwrap();
        assert_eq!(second.0.parts_count.map(std::num::NonZero::get), Some(4));
        assert!(second.1 == pieces[1]);
    }
    assert!(left(&mount.path("bucket")).is_empty(), "{:?}", left(&mount.path("bucket")));
    assert!(!mount.path("bucket/.kmsfs-uploads.0").exists());
}

#[test]
fn a_part_that_was_acknowledged_is_not_harmed_by_a_repetition_that_fails() {
    let store = Store::on_tmpfs();
    let _mount = store.mount();
    let client = Client::new(&store);
    client.create_bucket("bucket").unwrap();
    let (first, last) = (noise(1, PART), noise(2, 100));
    let id = begin(&client, "k", None).unwrap();
    let parts = [send(&client, "k", &id, 1, &first), send(&client, "k", &id, 2, &last)];
    let other = noise(3, PART);
    let (_, file) = client.ask(&Request::Begin(Box::new(part("k", &id, 1, PART).into()))).unwrap();
    std::io::Write::write_all(&mut fs::File::from(file.unwrap()), &other[..PART - 7]).unwrap();
    // The connection of the second attempt is open still when the upload is completed.
    written(&client, complete("k", &id, &parts)).unwrap();
    let whole = [first, last].concat();
    assert!(client.get("bucket", "k").unwrap().1 == whole);

    // The other way round: the first attempt never ends, and what it writes is in nobody's object.
    let id = begin(&client, "k2", None).unwrap();
    let (response, file) = client.ask(&Request::Begin(Box::new(part("k2", &id, 1, PART).into()))).unwrap();
    let mut file = fs::File::from(file.unwrap());
    std::io::Write::write_all(&mut file, &other[..1000]).unwrap();
    let parts = [send(&client, "k2", &id, 1, &whole[..PART]), send(&client, "k2", &id, 2, &whole[PART..])];
    let done = written(&client, complete("k2", &id, &parts)).unwrap();
    std::io::Write::write_all(&mut file, &other[1000..]).unwrap();
    drop(file);
    let Response::Begun { upload, .. } = response else { panic!("{response:?}") };
    let body = Body { length: PART as u64, md5: Some([0; 16]), checksum: None };
    assert_eq!(client.ask(&Request::Finish { upload, body }).unwrap_err().code(), &Code::NoSuchUpload);
    let (object, read) = client.get("bucket", "k2").unwrap();
    assert!(read == whole && object.etag == done.etag);
}

#[test]
fn a_part_that_a_program_has_shortened_makes_no_object() {
    let store = Store::on_tmpfs();
    let mount = store.mount();
    let client = Client::new(&store);
    client.create_bucket("bucket").unwrap();
    let id = begin(&client, "k", None).unwrap();
    send(&client, "k", &id, 1, &noise(1, PART));
    // Sent again it has a file of its own.
    let parts = [send(&client, "k", &id, 1, &noise(2, PART))];
    let own: Vec<_> = crate::harness::files_below(&mount.path("bucket"))
        .into_iter()
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("00001.")))
        .collect();
    assert_eq!(own.len(), 1, "{own:?}");
    fs::File::options().write(true).open(&own[0]).unwrap().set_len(1000).unwrap();
    assert_eq!(written(&client, complete("k", &id, &parts)).unwrap_err().code(), &Code::InvalidPart);
    assert_eq!(client.get("bucket", "k").unwrap_err().code(), &Code::NoSuchKey);
}

#[test]
fn parts_are_what_the_client_names_or_nothing_is_done() {
    let store = Store::on_tmpfs();
    let mount = store.mount();
    let client = Client::new(&store);
    client.create_bucket("bucket").unwrap();
    client.put("bucket", "k", "old").unwrap();
    let id = begin(&client, "k", None).unwrap();
    let content = noise(1, PART);
    let first = send(&client, "k", &id, 1, &content);
    let small = send(&client, "k", &id, 2, b"small");
    let third = send(&client, "k", &id, 3, b"third");
    let refused = |parts: &[CompletedPart]| written(&client, complete("k", &id, parts)).unwrap_err();
    let other = CompletedPart { etag: ETag::new("00"), ..first.clone() };
    let absent = CompletedPart { number: 7, ..first.clone() };
    assert_eq!(refused(&[other]).code(), &Code::InvalidPart);
    assert_eq!(refused(&[first.clone(), absent]).code(), &Code::InvalidPart);
    assert_eq!(refused(&[small.clone(), first.clone()]).code(), &Code::InvalidPartOrder);
    let too_small = refused(&[first.clone(), small.clone(), third.clone()]);
    assert_eq!(too_small.code(), &Code::EntityTooSmall);
    assert!(too_small.elements().contains(&("PartNumber".into(), "2".into())));
    let parts = [first.clone(), third.clone()];
    let wrong = CompleteMultipartUpload { object_size: Some(1), ..complete("k", &id, &parts) };
    assert_eq!(written(&client, wrong).unwrap_err().code(), &Code::InvalidRequest);
    let absent = CompleteMultipartUpload { condition: Some(WriteCondition::Absent), ..complete("k", &id, &parts) };
    assert_eq!(written(&client, absent).unwrap_err().code(), &Code::PreconditionFailed);
    assert_eq!(client.get("bucket", "k").unwrap().1, b"old");
    // A part that the client does not name is not of the object.
    let done = written(&client, complete("k", &id, &parts)).unwrap();
    assert!(done.etag.as_str().ends_with("-2"));
    assert!(client.get("bucket", "k").unwrap().1 == [&content[..], b"third"].concat());
    assert!(left(&mount.path("bucket")).is_empty());
    let gone = send_as(&client, part("k", &id, 4, 1), b"x", None).unwrap_err();
    assert_eq!(gone.code(), &Code::NoSuchUpload);
    client.put("bucket", "k", "new").unwrap();
    assert_eq!(refused(&parts).code(), &Code::NoSuchUpload, "what it made is there no more");
}

#[test]
fn checksums_of_parts_make_the_objects() {
    let store = Store::on_tmpfs();
    let _mount = store.mount();
    let client = Client::new(&store);
    client.create_bucket("bucket").unwrap();
    let sum = |bytes: &[u8]| Checksum::of_bytes(ChecksumAlgorithm::Sha256, Sha256::digest(bytes).to_vec());
    let crc =
        |bytes: &[u8]| Checksum::of_bytes(ChecksumAlgorithm::Crc32, crc32fast::hash(bytes).to_be_bytes().to_vec());
    let (first, last) = (noise(1, PART), noise(2, 77));
    let make = |of: &str, kind, sum: &dyn Fn(&[u8]) -> Checksum| {
        let id = begin(&client, of, Some((sum(b"").algorithm, kind))).unwrap();
        let parts = [&first, &last].into_iter().zip(1..).map(|(bytes, number)| {
            let done = send_as(&client, part(of, &id, number, bytes.len()), bytes, Some(sum(bytes))).unwrap();
            CompletedPart { number, etag: done.etag, checksums: vec![sum(bytes)] }
        });
        let parts: Vec<_> = parts.collect();
        (id, parts)
    };
    let (id, mut parts) = make("composite", ChecksumType::Composite, &sum);
    let given = send_as(&client, part("composite", &id, 3, 1), b"x", None).unwrap_err();
    assert_eq!(given.code(), &Code::InvalidRequest, "a part without the checksum that the upload wants");
    parts[0].checksums = vec![sum(b"other")];
    assert_eq!(written(&client, complete("composite", &id, &parts)).unwrap_err().code(), &Code::InvalidPart);
    parts[0].checksums = vec![sum(&first)];
    let done = written(&client, complete("composite", &id, &parts)).unwrap();
    let expected = sum(&[sum(&first).value, sum(&last).value].concat());
    assert_eq!(done.checksum, Some(Checksum { parts: Some(2), ..expected }));
    assert_eq!(client.head("bucket", "composite").unwrap().checksum, done.checksum);

    let (id, parts) = make("full", ChecksumType::FullObject, &crc);
    let whole = crc(&[&first[..], &last].concat());
    let wrong = CompleteMultipartUpload { checksum: Some(crc(b"other")), ..complete("full", &id, &parts) };
    assert_eq!(written(&client, wrong).unwrap_err().code(), &Code::BadDigest);
    let right = CompleteMultipartUpload { checksum: Some(whole.clone()), ..complete("full", &id, &parts) };
    assert_eq!(written(&client, right).unwrap().checksum, Some(whole.clone()));

    let wanted = Wanted { etag: true, checksum: true, object_parts: true, storage_class: true, object_size: true };
    let (answer, _) = client
        .perform(GetObjectAttributes {
            bucket: bucket_name("bucket"),
            key: key("full"),
            null_version: false,
            attributes: wanted,
            max_parts: 1,
            part_number_marker: 0,
        })
        .unwrap();
    let Answer::Attributes(attributes) = answer else { panic!("{answer:?}") };
    let Attributes { checksum, parts: Some(parts), size, .. } = *attributes else { panic!("no parts") };
    assert_eq!((checksum, size, parts.count, parts.truncated), (Some(whole), (PART + 77) as u64, 2, true));
    assert_eq!((parts.parts[0].size, &parts.parts[0].checksum), (PART as u64, &Some(crc(&first))));
}

#[test]
fn uploads_and_their_parts_are_listed_and_given_up() {
    let store = Store::on_tmpfs();
    let mount = store.mount();
    let client = Client::new(&store);
    client.create_bucket("bucket").unwrap();
    let (a, b) = (begin(&client, "dir/a", None).unwrap(), begin(&client, "dir/b", None).unwrap());
    let c = begin(&client, "other", None).unwrap();
    let names = |uploads: &Uploads| -> Vec<_> {
        uploads.uploads.iter().map(|upload| (upload.key.clone(), upload.upload_id.clone())).collect()
    };
    let all = list(&client, "", "", ("", None), 1000);
    let expected = vec![("dir/a".to_owned(), a.clone()), ("dir/b".to_owned(), b.clone()), ("other".to_owned(), c)];
    assert_eq!((names(&all), all.next), (expected.clone(), None));
    let first = list(&client, "", "", ("", None), 2);
    assert_eq!((names(&first), first.next), (expected[..2].to_vec(), Some(("dir/b".into(), Some(b.clone())))));
    assert_eq!(names(&list(&client, "", "", ("dir/b", Some(&b)), 2)), expected[2..]);
    let grouped = list(&client, "", "/", ("", None), 1);
    assert_eq!((grouped.prefixes.as_slice(), names(&grouped).len()), (&["dir/".to_owned()][..], 0));
    assert_eq!(names(&list(&client, "", "/", ("dir/", None), 10)), expected[2..]);
    assert_eq!(names(&list(&client, "dir/b", "", ("", None), 10)), expected[1..2]);

    let sizes = [PART, PART, 3];
    let sent: Vec<_> = sizes.iter().zip(1..).map(|(size, n)| send(&client, "dir/a", &a, n, &noise(1, *size))).collect();
    let parts = list_parts(&client, "dir/a", &a, 0, 2).unwrap();
    assert!(parts.truncated);
    let listed: Vec<_> = parts.parts.iter().map(|part| (part.number, part.size as usize, &part.etag)).collect();
    assert_eq!(listed, [(1, PART, &sent[0].etag), (2, PART, &sent[1].etag)]);
    assert_eq!(list_parts(&client, "dir/a", &a, 2, 2).unwrap().parts[0].size, 3);
    assert_eq!(list_parts(&client, "dir/b", &a, 0, 2).unwrap_err().code(), &Code::NoSuchUpload);

    let refused = client.perform(DeleteBucket { bucket: bucket_name("bucket") }).unwrap_err();
    assert_eq!(refused.code(), &Code::BucketNotEmpty);
    for (key_text, id) in &expected {
        let abort =
            || AbortMultipartUpload { bucket: bucket_name("bucket"), key: key(key_text), upload_id: id.clone() };
        client.perform(abort()).unwrap();
        assert_eq!(client.perform(abort()).unwrap_err().code(), &Code::NoSuchUpload);
    }
    assert!(names_in(&mount.path("bucket")).is_empty(), "{:?}", names_in(&mount.path("bucket")));
    client.perform(DeleteBucket { bucket: bucket_name("bucket") }).unwrap();
}

#[test]
fn parts_are_encrypted_as_the_object_will_be_and_can_be_copied_from_others() {
    let store = Store::on_tmpfs();
    let mount = store.mount();
    let client = Client::new(&store);
    client.create_bucket("bucket").unwrap();
    client.set_default("bucket", &configuration(KMS, true)).unwrap();
    let source = noise(5, PART + 50);
    client.put_as(plain_put("bucket", "source", source.len()), &source).unwrap();
    let id = begin(&client, "k", None).unwrap();
    let copy = |number, source_range| UploadPartCopy {
        bucket: bucket_name("bucket"),
        key: key("k"),
        upload_id: id.clone(),
        part_number: number,
        source: CopySource { bucket: bucket_name("bucket"), key: key("source"), null_version: false },
        source_range,
        source_conditions: Preconditions::default(),
    };
    let copied = |number, range| {
        let (answer, _) = client.perform(copy(number, range)).unwrap();
        let Answer::Written(written) = answer else { panic!("{answer:?}") };
        assert!(written.encryption.algorithm == Algorithm::AwsKms && written.encryption.bucket_key);
        CompletedPart { number, etag: written.etag, checksums: Vec::new() }
    };
    let parts = [copied(1, Some((50, PART as u64 + 49))), copied(2, None), copied(3, Some((0, 4)))];
    let beyond = client.perform(copy(4, Some((0, source.len() as u64)))).unwrap_err();
    assert_eq!(beyond.code(), &Code::InvalidArgument);
    // What is in a file of its own is no more readable in the store than what is in its place.
    store.sh("sync");
    for file in crate::harness::files_below(&store.store().join("buckets")) {
        let stored = fs::read(&file).unwrap();
        assert!(!stored.windows(64).any(|bytes| bytes == &source[..64]), "{}", file.display());
    }
    let done = written(&client, complete("k", &id, &parts)).unwrap();
    assert!(done.encryption.algorithm == Algorithm::AwsKms && done.etag.as_str().ends_with("-3"));
    assert!(client.get("bucket", "k").unwrap().1 == [&source[50..], &source, &source[..5]].concat());
    assert!(left(&mount.path("bucket")).is_empty());
}

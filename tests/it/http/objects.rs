//! An object over HTTP is a file in the mount, and the other way round.

use super::Served;
use std::fs;
use std::os::unix::fs::MetadataExt;

#[test]
fn what_is_put_is_a_file_of_the_user_and_what_is_written_can_be_got() {
    let served = Served::new();
    let root = served.client("root");
    root.put("/bucket", b"").expect(200);
    assert!(served.mount.path("bucket").is_dir());
    let put = root.put("/bucket/dir/an%20object", b"my name is Bond").expect(200);
    let path = served.mount.path("bucket/dir/an object");
    assert_eq!(fs::read(&path).unwrap(), b"my name is Bond");
    assert_eq!(fs::metadata(&path).unwrap().uid(), 0);
    let got = root.get("/bucket/dir/an%20object").expect(200);
    assert_eq!((got.body.as_slice(), got.header("etag")), (&b"my name is Bond"[..], put.header("etag")));
    assert_eq!(got.header("server"), "AmazonS3");

    fs::write(served.mount.path("bucket/written"), b"by a program").unwrap();
    let got = root.get("/bucket/written").expect(200);
    assert_eq!(got.body, b"by a program");
    let head = root.head("/bucket/written").expect(200);
    assert_eq!((head.header("content-length"), head.header("etag")), ("12", got.header("etag")));
    assert!(root.get("/bucket?list-type=2").expect(200).text().contains("<Key>dir/an object</Key>"));

    root.delete("/bucket/dir/an%20object").expect(204);
    assert!(!path.exists() && !served.mount.path("bucket/dir").exists());
    root.get("/bucket/dir/an%20object").expect_error(404, "NoSuchKey");
    root.delete("/bucket/dir/an%20object").expect(204);
    root.head("/bucket/none").expect(404);
    served.server.end();
}

#[test]
fn large_objects_pass_through_whole_and_in_ranges() {
    let served = Served::new();
    let root = served.client("root");
    root.put("/bucket", b"").expect(200);
    let content: Vec<u8> = (0..3_000_001_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    root.put("/bucket/large", &content).expect(200);
    assert!(fs::read(served.mount.path("bucket/large")).unwrap() == content);
    assert!(root.get("/bucket/large").expect(200).body == content);
    let part = root.sign("GET", "/bucket/large", &[("range", "bytes=1000000-2999999")], b"").send(&root.address);
    let part = part.expect(206);
    assert_eq!(part.header("content-range"), "bytes 1000000-2999999/3000001");
    assert!(part.body == content[1_000_000..3_000_000]);
    root.put("/bucket/empty", b"").expect(200);
    assert_eq!(root.get("/bucket/empty").expect(200).body, b"");
    let none = root.sign("GET", "/bucket/empty", &[("range", "bytes=0-")], b"").send(&root.address);
    none.expect_error(416, "InvalidRange");
}

#[test]
fn a_user_is_the_user_of_the_access_key_to_the_kernel() {
    let served = Served::new();
    let (root, nobody) = (served.client("root"), served.client("nobody"));
    root.put("/theirs", b"").expect(200);
    root.put("/theirs/secret", b"x").expect(200);
    fs::set_permissions(served.mount.path("theirs"), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    nobody.get("/theirs/secret").expect_error(403, "AccessDenied");
    nobody.put("/theirs/mine", b"x").expect_error(403, "AccessDenied");
    assert!(!served.mount.path("theirs/mine").exists());
    // A directory of root's, in which nobody may make anything.
    nobody.put("/bucket-of-nobody", b"").expect_error(403, "AccessDenied");
    fs::create_dir(served.mount.path("shared")).unwrap();
    fs::set_permissions(served.mount.path("shared"), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    nobody.put("/shared/mine", b"x").expect(200);
    assert_eq!(fs::metadata(served.mount.path("shared/mine")).unwrap().uid(), crate::harness::NOBODY);
}

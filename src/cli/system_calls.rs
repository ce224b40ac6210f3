//! System calls that serving files never takes, and that somebody who had found a way into the process would want.
//!
//! A list of what is refused rather than of what is allowed: what the C library and the user database call differs from
//! machine to machine, and a call that is missing in such a list ends the mount where nobody tried it.

use rustix::thread::UnshareFlags;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    sock_filter,
};
use std::collections::BTreeMap;
use std::error::Error;

/// Which process it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It has everything that it uses open, or reaches it by a name below what it has open.
    Serving,
    /// The same; requests come by rings, which were made before, and each of its threads may use one and stay on a
    /// processor. The rings do no more than that (`crates/sys/src/fuse_ring`).
    ServingByRings,
    /// It may make sockets and load the libraries of the user database.
    Broker,
    /// It may unmount.
    Keeper,
    /// It passes descriptors on, and is otherwise as the serving one.
    Authority,
    /// It accepts connections, and opens nothing.
    Front,
    /// It accepts connections too, and asks for one attribute.
    Metrics,
    /// It makes pairs of sockets and passes descriptors on, and is otherwise as the serving one.
    Worker,
}

impl Role {
    /// Of [`SOCKETS`], what it takes.
    fn sockets(self) -> &'static [libc::c_long] {
        match self {
            Self::Serving | Self::ServingByRings | Self::Keeper => &[],
            Self::Broker => SOCKETS,
            Self::Authority => &[libc::SYS_sendmsg],
            Self::Front | Self::Metrics => &[libc::SYS_sendmsg, libc::SYS_accept4, libc::SYS_setsockopt],
            Self::Worker => &[libc::SYS_sendmsg, libc::SYS_socketpair],
        }
    }
}

/// Refused to all.
const REFUSED: &[libc::c_long] = &[
    // Other programs, and what other processes hold or do.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_kcmp,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    libc::SYS_setpriority,
    libc::SYS_ioprio_set,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setaffinity,
    // Memory and queues that are shared by number or name.
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    libc::SYS_semget,
    libc::SYS_semctl,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
    // Mounts and namespaces, which CAP_SYS_ADMIN would allow; opening files by number, and all files of a file system.
    // (What a file's number means is asked by name.)
    libc::SYS_mount,
    libc::SYS_pivot_root,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    libc::SYS_quotactl,
    SYS_QUOTACTL_FD,
    SYS_OPEN_TREE_ATTR,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    // The kernel's larger surfaces.
    libc::SYS_bpf,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_userfaultfd,
    libc::SYS_perf_event_open,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_seccomp,
    libc::SYS_personality,
    // The machine as a whole.
    libc::SYS_reboot,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
];

/// Calls that only this architecture has.
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[libc::c_long] = &[
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_uselib,
    libc::SYS_kexec_file_load,
];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[libc::c_long] = &[];

/// The same number on every architecture, and newer than libc's list.
const SYS_QUOTACTL_FD: libc::c_long = 443;
const SYS_OPEN_TREE_ATTR: libc::c_long = 467;

/// Refused to all but the keeper. (Making a mount that is nowhere attached is how it finds the kernel's connections.)
const UNMOUNTING: &[libc::c_long] = &[libc::SYS_umount2, libc::SYS_fsopen, libc::SYS_fsconfig, libc::SYS_fsmount];

/// Refused to all but the broker, except for what a role takes of it. A socket that is connected may be written to; the
/// others are asked over it.
const SOCKETS: &[libc::c_long] = &[
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_setsockopt,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
];

/// Refused to the front, which has open what it uses: whatever takes a path.
const OPENING: &[libc::c_long] = &[
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_unlinkat,
    libc::SYS_symlinkat,
    libc::SYS_linkat,
    libc::SYS_renameat2,
    libc::SYS_fchmodat,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_truncate,
    libc::SYS_chdir,
    libc::SYS_getxattr,
    libc::SYS_setxattr,
    libc::SYS_removexattr,
    libc::SYS_inotify_init1,
    libc::SYS_memfd_create,
];

/// Refused to those that are a user for good, or nobody. (Which user it is setfsuid(2) says, and changes nothing then.)
const IDENTITY: &[libc::c_long] = &[
    libc::SYS_setuid,
    libc::SYS_setreuid,
    libc::SYS_setresuid,
    libc::SYS_setgid,
    libc::SYS_setregid,
    libc::SYS_setresgid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
];

/// What makes a terminal take commands: input that nobody typed, another discipline, the console's own.
const TERMINAL: [libc::Ioctl; 4] = [libc::TIOCSTI, libc::TIOCSETD, libc::TIOCLINUX, libc::TIOCCONS];
/// What would take back that memory is nobody else's, or change what the kernel believes about it.
const OF_MEMORY: [libc::c_int; 4] =
    [libc::PR_SET_DUMPABLE, libc::PR_SET_PTRACER, libc::PR_SET_MM, libc::PR_SET_SECCOMP];
const NAMESPACES: libc::c_int = libc::CLONE_NEWNS
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// Refuses them, with EPERM, to the calling thread and all that it starts from now on.
pub fn refuse(role: Role) -> Result<(), Box<dyn Error>> {
    let everywhere = [REFUSED, REFUSED_HERE].concat();
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = everywhere.into_iter().map(|call| (call, Vec::new())).collect();
    if role != Role::Keeper {
        rules.extend(UNMOUNTING.iter().map(|call| (*call, Vec::new())));
    }
    if matches!(role, Role::Front | Role::Metrics) {
        let asks = |call: libc::c_long| role == Role::Metrics && call == libc::SYS_getxattr;
        rules.extend(OPENING.iter().filter(|call| !asks(**call)).map(|call| (*call, Vec::new())));
    }
    if matches!(role, Role::Front | Role::Metrics | Role::Worker) {
        rules.extend(IDENTITY.iter().map(|call| (*call, Vec::new())));
        let nobodys = u64::from(libc::uid_t::MAX);
        rules.insert(libc::SYS_setfsuid, vec![rule([argument(0, SeccompCmpOp::Ne, nobodys)?])?]);
    }
    if role == Role::ServingByRings {
        const ENABLE_RINGS: u64 = 12; // IORING_REGISTER_ENABLE_RINGS
        rules.remove(&libc::SYS_io_uring_enter);
        rules.insert(libc::SYS_io_uring_register, vec![rule([argument(1, SeccompCmpOp::Ne, ENABLE_RINGS)?])?]);
        // The calling thread alone.
        rules.insert(libc::SYS_sched_setaffinity, vec![rule([argument(0, SeccompCmpOp::Ne, 0)?])?]);
    }
    let sockets = SOCKETS.iter().filter(|call| !role.sockets().contains(call));
    rules.extend(sockets.map(|call| (*call, Vec::new())));
    if role != Role::Broker {
        // To somebody else than whom the socket is connected to.
        rules.insert(libc::SYS_sendto, vec![rule([argument(4, SeccompCmpOp::Ne, 0)?])?]);
        // No code but the program's.
        let executable = libc::PROT_EXEC as u64;
        for call in [libc::SYS_mmap, libc::SYS_mprotect, libc::SYS_pkey_mprotect] {
            rules.insert(call, vec![rule([argument(2, SeccompCmpOp::MaskedEq(executable), executable)?])?]);
        }
    }
    let of = |number, value: u64| rule([argument(number, SeccompCmpOp::Eq, value)?]);
    #[allow(clippy::cast_lossless, clippy::unnecessary_cast)] // Signed with musl.
    rules.insert(libc::SYS_ioctl, TERMINAL.iter().map(|call| of(1, *call as u64)).collect::<Result<_, _>>()?);
    rules.insert(
        libc::SYS_prctl,
        OF_MEMORY.iter().map(|what| of(0, u64::from(what.unsigned_abs()))).collect::<Result<_, _>>()?,
    );
    // Of this process only: its own signals, as abort(3) sends them, and its own limits.
    let pid = u64::from(std::process::id());
    rules.insert(libc::SYS_tgkill, vec![rule([argument(0, SeccompCmpOp::Ne, pid)?])?]);
    let of_another = [argument(0, SeccompCmpOp::Ne, 0)?, argument(0, SeccompCmpOp::Ne, pid)?];
    rules.insert(libc::SYS_prlimit64, vec![rule(of_another)?]);
    // A thread that makes files has a umask of its own.
    let umask = u64::from(UnshareFlags::FS.bits());
    rules.insert(libc::SYS_unshare, vec![rule([argument(0, SeccompCmpOp::Ne, umask)?])?]);
    rules.insert(libc::SYS_clone, other_than_threads()?);
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, std::env::consts::ARCH.try_into()?)?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&by_number())?;
    Ok(seccompiler::apply_filter(&program)?)
}

/// Threads in the same namespaces are all that is started. Each bit of `NAMESPACES` is one by itself.
fn other_than_threads() -> Result<Vec<SeccompRule>, Box<dyn Error>> {
    let flag = |bit: u64, value: u64| rule([argument(0, SeccompCmpOp::MaskedEq(bit), value)?]);
    let bits = (0..31).map(|bit| 1_u64 << bit).filter(|bit| NAMESPACES as u64 & bit != 0);
    let thread = libc::CLONE_THREAD as u64;
    std::iter::once(flag(thread, 0)).chain(bits.map(|bit| flag(bit, bit))).collect()
}

fn rule<const N: usize>(conditions: [SeccompCondition; N]) -> Result<SeccompRule, Box<dyn Error>> {
    Ok(SeccompRule::new(conditions.into())?)
}

/// All of the kernel's flags and numbers are in the lower half, except addresses.
fn argument(number: u8, how: SeccompCmpOp, value: u64) -> Result<SeccompCondition, Box<dyn Error>> {
    const ADDRESS_OF_SENDTO: u8 = 4;
    let length = if number == ADDRESS_OF_SENDTO { SeccompCmpArgLen::Qword } else { SeccompCmpArgLen::Dword };
    Ok(SeccompCondition::new(number, length, how, value)?)
}

/// What the other filter cannot say. The flags of clone3(2) are in memory, where no filter sees them: it does not
/// exist, and the C library calls clone(2). And x86's other set of numbers (x32) reaches every call beside its own
/// number. (A call of a 32-bit program ends the process, by the other filter.)
fn by_number() -> BpfProgram {
    const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    const X32: u32 = 0x4000_0000; // __X32_SYSCALL_BIT
    const NUMBER: u32 = 0; // offset in struct seccomp_data
    let does = |code, k| sock_filter { code, jt: 0, jf: 0, k };
    let skips = |code, k, jt, jf| sock_filter { code, jt, jf, k };
    let error = |errno: libc::c_int| libc::SECCOMP_RET_ERRNO | errno.unsigned_abs();
    vec![
        does(LOAD, NUMBER),
        skips(AT_LEAST, X32, 0, 1),
        does(RETURN, error(libc::EPERM)),
        skips(EQUAL, libc::SYS_clone3 as u32, 0, 1),
        does(RETURN, error(libc::ENOSYS)),
        does(RETURN, libc::SECCOMP_RET_ALLOW),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmsfs_sys::fuse_ring::Call;
    use rustix::io::Errno;
    use std::net::UdpSocket;
    use std::os::unix::net::UnixDatagram;
    use std::process::Command;

    #[test]
    fn a_thread_that_refuses_them_and_its_children_cannot_make_them_and_can_serve() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let thread = std::thread::spawn(move || {
            rustix::thread::set_no_new_privs(true).unwrap();
            refuse(Role::Serving).unwrap();
            let refused = |error: std::io::Error| error.raw_os_error() == Some(libc::EPERM);
            assert!(Command::new("/bin/true").spawn().is_err_and(refused));
            std::thread::spawn(move || {
                assert!(UdpSocket::bind("127.0.0.1:0").is_err_and(refused));
                assert!(UnixDatagram::unbound().is_err_and(refused));
                assert!(ours.send(b"connected").is_ok());
                assert!(ours.send_to(b"elsewhere", "/dev/log").is_err_and(refused));
                assert_eq!(rustix::process::chroot("/"), Err(Errno::PERM));
                assert!(kmsfs_sys::unshare_umask().is_ok());
                assert!(std::fs::read_dir("/").is_ok());
                assert_ne!(kmsfs_crypto::random::bytes::<16>(), [0; 16]);
            })
            .join()
            .unwrap();
        });
        thread.join().unwrap();
        drop(theirs);
        assert!(Command::new("/bin/true").status().unwrap().success(), "it reached another thread");
    }

    /// A call that is let through fails by itself: there is no such descriptor.
    #[test]
    fn rings_are_used_by_those_whom_they_serve_and_made_by_nobody() {
        for (role, uses) in [(Role::ServingByRings, true), (Role::Serving, false), (Role::Broker, false)] {
            std::thread::spawn(move || {
                rustix::thread::set_no_new_privs(true).unwrap();
                refuse(role).unwrap();
                let is_refused = |call: Call| kmsfs_sys::fuse_ring::try_call(call).raw_os_error() == Some(libc::EPERM);
                assert!(is_refused(Call::Setup));
                assert!(is_refused(Call::Register(2)));
                assert_eq!(is_refused(Call::Register(12)), !uses);
                assert_eq!(is_refused(Call::Enter), !uses);
                let here = rustix::thread::sched_getaffinity(None).unwrap();
                assert_eq!(rustix::thread::sched_setaffinity(None, &here).is_ok(), uses);
                let of = |pid| rustix::thread::sched_setaffinity(Some(pid), &here);
                assert_eq!(of(rustix::process::getpid()), Err(Errno::PERM));
            })
            .join()
            .unwrap();
        }
    }

    #[test]
    fn the_broker_may_connect_and_not_unmount_and_the_keeper_the_other_way_round() {
        for (role, socket, unmounts) in [(Role::Broker, true, false), (Role::Keeper, false, true)] {
            std::thread::spawn(move || {
                rustix::thread::set_no_new_privs(true).unwrap();
                refuse(role).unwrap();
                assert_eq!(UnixDatagram::unbound().is_ok(), socket);
                let unmounted = rustix::mount::unmount("/nonexistent", rustix::mount::UnmountFlags::empty());
                assert_eq!(unmounted == Err(Errno::NOENT), unmounts, "{unmounted:?}");
                assert_eq!(rustix::process::chroot("/"), Err(Errno::PERM));
            })
            .join()
            .unwrap();
        }
    }
}

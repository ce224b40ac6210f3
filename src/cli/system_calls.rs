//! System calls that serving files never takes, and that somebody who had found a way into the process would want.
//!
//! A list of what is refused rather than of what is allowed: what the C library and the user database call differs from
//! machine to machine, and a call that is missing in such a list ends the mount where nobody tried it.

use rustix::thread::UnshareFlags;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use std::collections::BTreeMap;
use std::error::Error;

const REFUSED: &[libc::c_long] = &[
    // Other programs, and what other processes hold.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Mounts and namespaces, which CAP_SYS_ADMIN would allow; files by number.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_open_by_handle_at,
    libc::SYS_quotactl,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    // The kernel's larger surfaces.
    libc::SYS_bpf,
    libc::SYS_io_uring_setup,
    libc::SYS_userfaultfd,
    libc::SYS_perf_event_open,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    // The machine as a whole.
    libc::SYS_reboot,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
];

/// Refuses them, with EPERM, to the calling thread and all that it starts from now on.
pub fn refuse() -> Result<(), Box<dyn Error>> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    // Sockets of this machine stay: the system's log, and daemons that know users.
    rules.insert(libc::SYS_socket, other_than(libc::AF_UNIX as u64)?);
    // A thread that makes files has a umask of its own.
    rules.insert(libc::SYS_unshare, other_than(u64::from(UnshareFlags::FS.bits()))?);
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, std::env::consts::ARCH.try_into()?)?;
    let program: BpfProgram = filter.try_into()?;
    Ok(seccompiler::apply_filter(&program)?)
}

/// Calls whose first argument is another one.
fn other_than(argument: u64) -> Result<Vec<SeccompRule>, Box<dyn Error>> {
    let condition = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, argument)?;
    Ok(vec![SeccompRule::new(vec![condition])?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;
    use std::net::UdpSocket;
    use std::os::unix::net::UnixDatagram;
    use std::process::Command;

    #[test]
    fn a_thread_that_refuses_them_and_its_children_cannot_make_them_and_can_serve() {
        let thread = std::thread::spawn(|| {
            refuse().unwrap();
            let refused = |error: std::io::Error| error.raw_os_error() == Some(libc::EPERM);
            assert!(Command::new("/bin/true").spawn().is_err_and(refused));
            std::thread::spawn(move || {
                assert!(UdpSocket::bind("127.0.0.1:0").is_err_and(refused));
                assert_eq!(rustix::process::chroot("/"), Err(Errno::PERM));
                assert!(UnixDatagram::unbound().is_ok());
                assert!(crate::sys::unshare_umask().is_ok());
                assert!(std::fs::read_dir("/").is_ok());
            })
            .join()
            .unwrap();
        });
        thread.join().unwrap();
        assert!(Command::new("/bin/true").status().unwrap().success(), "it reached another thread");
    }
}

//! A debugger that has a thread of another process make system calls, as somebody would who had found a way into it.

use crate::harness::wait_until;
use nix::libc::user_regs_struct;
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;

/// `syscall`, and `int 0x80`, by which 32-bit programs call.
const SYSCALL: [u8; 2] = [0x0f, 0x05];
const INT_80: [u8; 2] = [0xcd, 0x80];

/// A stopped thread, which goes on as if nothing had been when this is dropped.
pub struct Debugger {
    thread: Pid,
    registers: user_regs_struct,
    memory: File,
    ended: bool,
}

pub enum Argument<'a> {
    Number(u64),
    /// The address of these bytes.
    Bytes(&'a [u8]),
}
pub use Argument::{Bytes, Number};

impl Debugger {
    /// Stops a thread that waits for requests of the kernel.
    pub fn attach(pid: u32) -> Self {
        let reads = |thread: &i32| {
            let call = fs::read_to_string(format!("/proc/{pid}/task/{thread}/syscall"));
            // Not the first one, whose end is for those to hear who have started the process.
            thread.cast_unsigned() != pid && call.is_ok_and(|call| call.starts_with("0 "))
        };
        let mut waiting = None;
        assert!(wait_until(|| {
            let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
            let mut threads = threads.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap());
            waiting = threads.find(reads);
            waiting.is_some()
        }));
        let thread = Pid::from_raw(waiting.expect("just seen"));
        ptrace::seize(thread, ptrace::Options::empty()).unwrap();
        ptrace::interrupt(thread).unwrap();
        assert!(matches!(wait(thread), WaitStatus::PtraceEvent(..)));
        let registers = ptrace::getregs(thread).unwrap();
        let memory = OpenOptions::new().read(true).write(true).open(format!("/proc/{pid}/mem")).unwrap();
        let debugger = Self { thread, registers, memory, ended: false };
        assert_eq!(debugger.read::<2>(registers.rip - 2), SYSCALL, "the thread is in no system call");
        debugger
    }

    pub fn call(&mut self, number: i64, arguments: &[Argument]) -> Result<u64, Errno> {
        self.call_with(SYSCALL, number, arguments).expect("the process has ended")
    }

    /// As a 32-bit program does. `None` if that ended the process, and with which signal it should.
    pub fn call_as_32_bits(&mut self, number: i64) -> Option<Result<u64, Errno>> {
        self.call_with(INT_80, number, &[])
    }

    fn call_with(&mut self, instruction: [u8; 2], number: i64, arguments: &[Argument]) -> Option<Result<u64, Errno>> {
        let mut registers = self.registers;
        registers.rip -= 2;
        // Nothing to begin anew for the kernel.
        registers.orig_rax = u64::MAX;
        registers.rax = number.cast_unsigned();
        // Below what the thread uses of its stack, the red zone included.
        let mut free = (self.registers.rsp - 4096) & !15;
        let mut values = [0; 6];
        for (value, argument) in values.iter_mut().zip(arguments) {
            *value = match argument {
                Number(number) => *number,
                Bytes(bytes) => {
                    free -= (bytes.len() as u64 + 16) & !15;
                    self.memory.write_all_at(bytes, free).unwrap();
                    free
                }
            };
        }
        [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9] = values;
        self.memory.write_all_at(&instruction, registers.rip).unwrap();
        ptrace::setregs(self.thread, registers).unwrap();
        ptrace::step(self.thread, None).unwrap();
        let stopped = wait(self.thread);
        if matches!(stopped, WaitStatus::Signaled(_, Signal::SIGSYS, _)) {
            self.ended = true;
            return None;
        }
        assert_eq!(stopped, WaitStatus::Stopped(self.thread, Signal::SIGTRAP));
        let answer = ptrace::getregs(self.thread).unwrap().rax;
        self.memory.write_all_at(&SYSCALL, registers.rip).unwrap();
        let errno = i32::try_from(answer.cast_signed().wrapping_neg()).unwrap_or(0);
        Some(if (1..4096).contains(&errno) { Err(Errno::from_raw_os_error(errno)) } else { Ok(answer) })
    }

    fn read<const N: usize>(&self, at: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.memory.read_exact_at(&mut bytes, at).unwrap();
        bytes
    }
}

impl Drop for Debugger {
    fn drop(&mut self) {
        if !self.ended {
            let _ = ptrace::setregs(self.thread, self.registers);
            let _ = ptrace::detach(self.thread, None);
        }
    }
}

fn wait(thread: Pid) -> WaitStatus {
    waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap()
}

//! The order of all locks: a thread takes each of them after those that stand above it here, and never the other way.
//!
//! Those of the file system come first and those of the store below it after them, since the one calls the other. Where
//! one may be held for long, its sentence says what happens under it.

/// A place in the order, as a type.
pub trait Rank {
    /// Which place that is.
    const PLACE: Place;
}

macro_rules! ranks {
    ($($(#[$what:meta])* $name:ident,)*) => {
        /// The places, in their order.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Place {
            $($(#[$what])* $name,)*
        }

        $(
            $(#[$what])*
            #[derive(Debug)]
            pub enum $name {}

            impl Rank for $name {
                const PLACE: Place = Place::$name;
            }
        )*
    };
}

ranks! {
    // ---- requests of the kernel

    /// Who waits for an inode that is asked for by its number. Nothing is called under it.
    AskedByNumber,

    // ---- the file system: what keeps names and numbers what they are, while the store is called

    /// Of one draft of a configuration: it is being made the content. One flush waits for the other.
    WritingOut,
    /// What directories have for configurations is changing, or directories move with what they have. The list is
    /// written, the change made and, where there is one, synced.
    Configuring,
    /// Shared by whoever takes a name away or gives an inode another one; held alone to say what is where.
    NamesChanging,
    /// Not a lock but a turn: two inodes, or one, whose names are changing below, or just being used there.
    InodeHeld,
    /// Held alone by whoever moves or removes a directory; shared by whoever walks down names to one.
    Tree,

    // ---- the file system: tables, of which none is held while the store is called

    /// When it was looked last whether keys have changed.
    Watch,
    /// What could not be read, for the thread that cuts it.
    GivenUp,
    /// What the KMS has said to one evaluation of open handles.
    Evaluation,
    /// Which configurations are being written.
    Drafts,
    /// What one of them will say.
    Draft,
    /// Inodes whose pages and keys are to go, for the thread that does it.
    RevocationQueue,
    /// Inodes with a handle that is refused.
    RevokedInodes,
    /// What the kernel knows of inodes, and their names.
    Inodes,
    /// Open handles, by number.
    Handles,
    /// The same, by inode.
    HandlesOfInode,
    /// The keys that closed files were read under.
    ClosedKeys,
    /// The configurations that were read.
    Configurations,
    /// Directories that are held open.
    Dirs,
    /// Where inodes were seen by whoever searched for one by its number.
    Hints,
    /// Jobs that wait for a thread.
    Jobs,
    /// Inodes that could not be written back.
    Unwritten,
    /// What came of requests that a refusal or an outcome is kept of, until somebody asks.
    Outcomes,
    /// The last refusals, for whoever asks how the mount is.
    Refusals,

    // ---- the store: who may do something now

    /// Shared by whoever makes a file, until its birth is noted; alone to remove what a crash left without one.
    Making,
    /// Not a lock but a turn: an object that is coming into memory, while the KMS is asked for its keys too.
    Opening,
    /// Not a lock but a turn: an inode number that changes hands.
    Settling,
    /// The gate: shared by whoever appends to the redo log, for as long as that may need; a checkpoint has it alone.
    Gate,

    // ---- the store: an object

    /// The objects in memory, by inode.
    ObjectTable,
    /// Of one object: whether it has a file capability, held while that is found out or changed.
    Capability,
    /// Of one object: everything else that there is to know of it. Its content is written under it, and committed.
    ObjectState,
    /// Of one object: ciphers by key epoch.
    Ciphers,
    /// Of one object: what was read ahead.
    Ahead,

    // ---- the store: tables, of which none is held while another object is used

    /// Objects in memory, by id.
    ObjectIds,
    /// Closed objects and their descriptors, in the order in which they were closed.
    ClosedObjects,
    /// The dead, until a checkpoint.
    Dead,
    /// Closed objects that the log holds something of.
    Pinned,
    /// Names that a crash may lose.
    UnsyncedNames,
    /// What was synced last.
    LastSynced,
    /// Inodes that have other space than before a checkpoint.
    Resized,
    /// What was read ahead for whoever removes a tree.
    Foresight,
    /// Which features the store has; store.json is replaced under it.
    Features,
    /// Whether space is kept back, held while that is made or given up.
    Reserve,
    /// When nothing waited for a checkpoint.
    Settled,
    /// Units of segments that are free. Whether they are is read under it.
    SegmentUnits,
    /// Segments' files; a new one is made under it.
    SegmentFiles,
    /// The end of the redo log. Appending is writing under it.
    LogTail,
    /// How far the redo log is durable. Whoever waits for a sync waits here, and the sync itself holds nothing.
    LogSyncs,
    /// What directories have for configurations, held while the list is written.
    Configured,
    /// What was last told to the witness, held while that is told.
    Witness,
    /// The thread that renews the lease, held while it ends and another one is started.
    Tending,
    /// What this mount has written about itself beside the store's lock, held while that is renewed.
    Owner,
    /// The descriptor that holds the store's lock.
    StoreLock,

    // ---- keys

    /// Bucket keys, by what they are kept under.
    BucketKeys,
    /// One bucket key, or the want of it: whoever makes it, or has the KMS decrypt it, holds it meanwhile.
    BucketKey,

    // ---- the KMS of this machine, and the audit trail of any KMS: below bucket keys, which are held while it is asked

    /// The keyring is being read again, so that what was read earlier never replaces what was read later.
    KeyringReloading,
    /// The root key that a keyring is unlocked with, and its slot. slots.json is read under it.
    KeyringSession,
    /// What was read of the keyring last, and the key materials that were unwrapped.
    KeyringContents,
    /// Policies and grants of one generation of the keyring.
    KeyRules,
    /// Sectors of `shred` that a change has filled. Which are free is read under it.
    ShredSectors,
    /// When the keyring's file was looked at last.
    KeyringLooked,
    /// What the KMS did by itself and nobody has recorded yet.
    KmsDone,
    /// Users and groups that the user database was asked for.
    UserEntries,
    /// Calls of a KMS that is elsewhere, which wait for a thread.
    KmsCalls,
    /// Blobs that a provider is opening, and who waits for each.
    ProviderJoins,
    /// Keys of a provider, and whether they can be used.
    ProviderKeys,
    /// How a provider is.
    ProviderHealth,
    /// Calls that a provider has not answered.
    ProviderCalls,
    /// The stream that a provider reads requests from. Whose turn it is waits for one under it.
    ProviderReading,
    /// The stream that one side of a provider writes to. A frame is written under it.
    ProviderWriting,
    /// Whom a key was refused without a call, each recorded once.
    AuditRefused,
    /// The end of the audit trail. A record is written under it.
    AuditTrail,

    // ---- what is behind turns, and taken when one ends, whatever else is held then

    /// Behind `InodeHeld`.
    InodesHeld,
    /// Behind `Opening` and `Settling`.
    InodesSettling,

    // ---- below everything

    /// Of a process: a mode of the backing file system's is another for a moment.
    Modes,
    /// What tests keep beside what they test, and nothing is taken under.
    InTests,
}

/// What a thread may hold while it asks the KMS, which may be far away: nothing that anybody waits for who wants
/// something else. Whoever opens the object that somebody else is just opening, or wants the bucket key that somebody
/// else is just asking for, would have to ask the same question otherwise. Who takes an object's name away is let
/// through meanwhile.
pub const HELD_WHILE_THE_KMS_ANSWERS: &[Place] = &[Place::Opening, Place::BucketKey];

//! How RocksDB is opened.

use std::path::Path;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode, Options,
};

use super::{FAMILIES, LOG, STATE, STATE_B, StoreError, failed};
use crate::config::StoreConfig;

/// Most bytes of the log of writes before older records must be in files.
const WAL_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Files of what is hardly read, each of one flush, until they are merged, until writes are slowed down, and until they
/// stop.
const UNREAD_FILES: [i32; 3] = [12, 40, 60];
/// Files RocksDB keeps open.
const FILES_OPEN_MAX: i32 = 512;

/// True when nothing is there, or no directory.
pub(super) fn is_empty(dir: &Path) -> Result<bool, StoreError> {
    match std::fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(failed(dir, error)),
    }
}

/// What is in there is the owner's alone.
pub(super) fn make_dir(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Opens all families.
pub(super) fn open_db(dir: &Path, config: &StoreConfig, create: bool) -> Result<DB, StoreError> {
    let options = db_options(config, create);
    let cache = Cache::new_lru_cache(config.cache_mib as usize * 1024 * 1024);
    let families = FAMILIES.map(|name| ColumnFamilyDescriptor::new(name, family_options(name, &cache)));
    DB::open_cf_descriptors(&options, dir, families).map_err(|error| failed(dir, error))
}

fn db_options(config: &StoreConfig, create: bool) -> Options {
    let mut options = Options::default();
    options.create_if_missing(create);
    // A directory of an older format has fewer.
    options.create_missing_column_families(true);
    // A kill in the middle of a write leaves a torn end: what is before it counts, and the server starts.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    // Families reach their files together, so that no family can be ahead of the log of writes.
    options.set_atomic_flush(true);
    options.set_paranoid_checks(true);
    options.set_max_total_wal_size(WAL_BYTES_MAX);
    options.set_db_write_buffer_size(config.write_buffer_mib as usize * 1024 * 1024);
    options.set_max_open_files(FILES_OPEN_MAX);
    options.set_keep_log_file_num(4);
    options.set_max_log_file_size(4 * 1024 * 1024);
    options
}

fn family_options(name: &str, cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_bloom_filter(10.0, false);
    table.set_format_version(5);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    // Live records and the log are read at the start and for few else, so that many files of them cost nothing, while
    // each merging of a few writes all of them anew; the log's entries are mostly gone by then.
    if [STATE, STATE_B, LOG].contains(&name) {
        let [merge, slow, stop] = UNREAD_FILES;
        options.set_level_zero_file_num_compaction_trigger(merge);
        options.set_level_zero_slowdown_writes_trigger(slow);
        options.set_level_zero_stop_writes_trigger(stop);
    }
    options.set_compression_type(match name {
        LOG => DBCompressionType::None,
        _ => DBCompressionType::Lz4,
    });
    options
}

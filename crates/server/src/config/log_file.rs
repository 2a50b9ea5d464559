//! `log_file` and `log_rotate_*`.

use tresor_hcl::Value;

use super::load::Source;
use super::{ConfigError, LogFileConfig};

/// Reads a key, if it is one of these.
pub(super) fn read_log_file(
    source: &Source<'_>,
    key: &str,
    value: &Value,
    file: &mut LogFileConfig,
) -> Result<bool, ConfigError> {
    if !LogFileConfig::KEYS.contains(&key) {
        return Ok(false);
    }
    file.set(key, &source.text(key, value)?).map_err(|error| source.error(value.position, error))?;
    Ok(true)
}

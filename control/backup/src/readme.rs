//! The files for people that lie beside the sets.

use crate::layout::Scope;

/// What a folder holds and how to open it without this program.
pub(crate) fn text(scope: &Scope, sealed: bool) -> String {
    let what = match scope {
        Scope::Gateway => "the whole gateway".to_owned(),
        Scope::Tenant(id) => format!("the tenant {id}"),
    };
    let sealing = if sealed {
        "Everything in objects/ is sealed with a passphrase (Argon2id, XChaCha20-Poly1305): only openclawmu opens it.\n"
    } else {
        "Everything in objects/ opens with `tar`, `zstd` and a text editor.\n"
    };
    format!(
        "This folder is a backup by OpenClawMU of {what}.

backups/NUMBER/manifest.json   one backup: it lists its objects, each with its SHA-256, its size and its key in this place.
                               A number without a manifest is a backup that was never finished: it is none.
objects/SHA256.tar             files of a tenant, as a tar archive; .tar.zst is the same, compressed. Archives that lie
objects/SHA256.tar.zst         beside each other in one manifest are parts of one directory: unpack all into the same place.
                                 zstd -dc SHA256.tar.zst | tar -x
objects/SHA256.jsonl.zst       rows, one JSON object a line. `rows` of a manifest are the tenant itself, its tokens (keyed
                               hashes, never a secret) and its sealed provider keys. `ledger` is what it used, by month: one
                               line for each attempt, money in nano-dollars (1 USD is 1,000,000,000).
                                 zstd -dc SHA256.jsonl.zst | less
objects/SHA256.db.zst          the gateway's database (SQLite), in a backup of the whole gateway
segments/                      ledger rows and audit lines since the last backup of the whole gateway

{sealing}
Objects are named by their content, and several backups share those that did not change: remove nothing from objects/ by
hand. `rate_card` in a ledger line is the number of a price list of the gateway that wrote it.

No key of the gateway is in here. To restore tokens and provider keys, the gateway needs its pepper.key and master.key, whose
fingerprints are in each manifest, and to go on with its audit log its audit.key. Keep all three elsewhere.

    openclawmu backups verify              is everything here, and unaltered?
    openclawmu tenants restore --from URL  puts a tenant back; `--as new-id` makes a copy
    openclawmu backups restore --from URL  makes a gateway of it, in an empty data directory
"
    )
}

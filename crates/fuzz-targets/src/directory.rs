//! FZ-09 and what a directory sends: LDIF with values that a stranger chose, and answers of a server that is not what it
//! says.

pub(crate) const WORDS: &[&str] = &[
    "dn: ",
    "cn=a",
    "changetype: ",
    "modify\n",
    "add\n",
    "delete\n",
    "replace: mail\n",
    "mail: ",
    ":: YQ==\n",
    "{{.Username}}",
    "{{",
    "}}",
    "-\n",
    " ",
    "\n",
    "#",
    "\u{0}",
];

/// An answer of a directory: it is read to its end, or not at all, and the same each time.
pub fn directory(bytes: &[u8]) {
    let is_answer = tresor_directory::read_answer(bytes);
    assert_eq!(tresor_directory::read_answer(bytes), is_answer, "read again it is another one");
}

/// LDIF, up to the first NUL, and what is put into its templates, behind that: the value decides neither how many entries
/// there are nor how many attributes they have.
pub fn ldif(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (text, value) = text.split_once('\0').unwrap_or((text, "a"));
    let (plain, hostile) = (tresor_ldap::fuzz::shape(text, "u"), tresor_ldap::fuzz::shape(text, value));
    if let (Some(plain), Some(hostile)) = (plain, hostile) {
        assert_eq!(plain, hostile, "what was put in changed what it was put into");
    }
}

//! What quotas are about: the namespace or mount that a path leads to, and where that is now.
//!
//! Paths are those of the namespace that is asked, so the one that administrates the server sees and changes quotas of its
//! own and of what is below it, and no others. Deliberately absent: the quotas.

use std::collections::BTreeMap;
use std::sync::Arc;

use tresor_core::Space;
use tresor_core::mounts::Mount;
use tresor_core::mounts::record::StoredClass;
use tresor_core::quotas::About;
use tresor_engine::{Cx, LoginRole, View, Widened};
use tresor_model::{Fault, Map, Path};

use super::Sys;

/// What a path leads to.
pub(super) struct Target {
    pub(super) space: Arc<Space>,
    pub(super) mount: Option<Arc<Mount>>,
    /// What is left of the path below the mount, without a slash at its end.
    pub(super) rest: String,
}

impl Target {
    /// # Errors
    /// A refusal when the path leads nowhere.
    pub(super) fn find(sys: &Sys, cx: &Cx<'_>, path: &str) -> Result<Self, Fault> {
        let asked = sys.space(cx)?;
        let path = path.trim_matches('/');
        if path.is_empty() {
            return Ok(Self { space: asked, mount: None, rest: String::new() });
        }
        let invalid = || Fault::invalid(format!("invalid mount path {:?}", format!("{path}/")));
        let whole = Path::from_decoded(&format!("{path}/")).map_err(|_| invalid())?;
        let (goes_to, rest) = sys.handles.spaces.resolve(&asked.path, &whole)?;
        let (space, rest) = (goes_to.space, rest.as_ref().unwrap_or(&whole).as_str());
        if rest.is_empty() {
            return Ok(Self { space, mount: None, rest: String::new() });
        }
        let table = space.mounts.table();
        let (mount, rest) = table.find(rest).ok_or_else(invalid)?;
        let (mount, rest) = (Arc::clone(mount), rest.trim_end_matches('/').to_owned());
        Ok(Self { space, mount: Some(mount), rest })
    }

    pub(super) fn about(&self) -> About {
        match &self.mount {
            Some(mount) => About::Mount(mount.record.id.clone()),
            None => About::Namespace(self.space.id.clone()),
        }
    }

    /// # Errors
    /// A refusal when it is no whole auth method that has roles.
    pub(super) fn must_have_roles(&self, sys: &Sys, cx: &mut Cx<'_>) -> Result<(), Fault> {
        let has_roles = match &self.mount {
            Some(mount) if self.rest.is_empty() => has_roles(sys, cx, mount)?,
            _ => false,
        };
        if has_roles {
            return Ok(());
        }
        let mount = self.mount.as_ref();
        let (path, class) =
            mount.map_or(("", StoredClass::System), |mount| (mount.record.path.as_str(), mount.record.class));
        Err(no_roles(path, class, &self.rest))
    }

    /// The whole path of the namespace or mount.
    pub(super) fn path(&self) -> String {
        format!("{}{}", self.space.path, self.mount.as_ref().map_or("", |mount| mount.record.path.as_str()))
    }
}

/// Where what a quota is about is now, as it is seen in the namespace that is asked; `None` when it is gone, or elsewhere.
pub(super) fn seen(sys: &Sys, cx: &Cx<'_>, about: &About) -> Result<Option<String>, Fault> {
    let asked = sys.space(cx)?;
    let spaces = &sys.handles.spaces;
    let path = match about {
        About::Namespace(id) => spaces.with_id(id).filter(|space| !space.is_leaving()).map(|space| space.path.clone()),
        About::Mount(id) => spaces.with_mount(id).map(|(space, mount)| format!("{}{}", space.path, mount.record.path)),
    };
    Ok(path.and_then(|path| path.strip_prefix(asked.path.as_str()).map(str::to_owned)))
}

/// Refuses to change a quota that is about something outside the namespace that is asked.
pub(super) fn must_be_ones_own(sys: &Sys, cx: &Cx<'_>, known: Option<&About>) -> Result<(), Fault> {
    let Some(about) = known else { return Ok(()) };
    if sys.space(cx)?.is_root() || seen(sys, cx, about)?.is_some() {
        return Ok(());
    }
    Err(Fault::invalid("a quota of this name is about something outside this namespace"))
}

/// Whether quotas can be on roles of a mount.
fn has_roles(sys: &Sys, cx: &mut Cx<'_>, mount: &Mount) -> Result<bool, Fault> {
    if mount.record.class != StoredClass::Auth {
        return Ok(false);
    }
    let Some((space, _)) = sys.handles.spaces.with_mount(&mount.record.id) else { return Ok(false) };
    let Some(engine) = space.mounts.engine(mount) else { return Ok(false) };
    let mut view = View::new(cx.view.widen(Widened::assertion()), mount.contents.clone());
    Ok(engine.login_role(&mut view, &BTreeMap::new(), &Map::new())? != LoginRole::Unsupported)
}

/// Why a quota cannot be about a role there.
fn no_roles(path: &str, class: StoredClass, suffix: &str) -> Fault {
    Fault::invalid(if !suffix.is_empty() {
        "Quotas cannot contain both a path suffix and a role. If a role is provided, path must be a valid auth mount \
         with a concept of roles"
            .to_owned()
    } else if class == StoredClass::Auth {
        format!("Mount path {path:?} does not support use with role-based quotas")
    } else {
        format!(
            "Mount path {path:?} is not a valid auth method and therefore unsuitable for use with role-based quotas"
        )
    })
}

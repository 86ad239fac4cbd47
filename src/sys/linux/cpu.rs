//! How many processors the process may use: its affinity, and the quota of its control groups.

use std::path::Path;

/// Control groups above one another that are looked at.
const MAX_DEPTH: usize = 32;

/// Processors on which the process may run.
pub(crate) fn affinity() -> Option<usize> {
    // SAFETY: zeros are a valid set, and the call writes at most the size that it is given.
    unsafe {
        let mut set = std::mem::zeroed::<libc::cpu_set_t>();
        if libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) != 0 {
            return None;
        }
        usize::try_from(libc::CPU_COUNT(&set)).ok().filter(|count| *count > 0)
    }
}

/// Seconds of processor time that the process may use in a second, if its control group or one above it has a quota.
pub(crate) fn cpu_quota() -> Option<f64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    quota_in(Path::new("/sys/fs/cgroup"), &groups)
}

/// The least quota of the control groups that `groups` lists as `/proc/self/cgroup` does. Their files are in `root`, in
/// version 2 of the interface; or in a folder there named after the controller, in version 1.
fn quota_in(root: &Path, groups: &str) -> Option<f64> {
    let quota = |line: &str| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let is_v2 = controllers.is_empty();
        let root = match controllers.split(',').any(|controller| controller == "cpu") {
            true => root.join("cpu"),
            false if is_v2 => root.to_owned(),
            false => return None,
        };
        let group = root.join(path.trim_start_matches('/'));
        // In a container the path may be one of the host's, and what is mounted is the container's group.
        let groups = group.ancestors().take_while(|group| group.starts_with(&root)).take(MAX_DEPTH);
        let quotas = groups.chain([&*root]).filter_map(|group| if is_v2 { quota_v2(group) } else { quota_v1(group) });
        quotas.min_by(f64::total_cmp)
    };
    groups.lines().filter_map(quota).min_by(f64::total_cmp)
}

/// From a file such as `150000 100000`: microseconds of processor time in a period, or `max`, and the period.
fn quota_v2(group: &Path) -> Option<f64> {
    let text = std::fs::read_to_string(group.join("cpu.max")).ok()?;
    let (quota, period) = text.trim().split_once(' ')?;
    ratio(quota, period)
}

fn quota_v1(group: &Path) -> Option<f64> {
    let read = |name| std::fs::read_to_string(group.join(name)).ok();
    ratio(read("cpu.cfs_quota_us")?.trim(), read("cpu.cfs_period_us")?.trim())
}

/// `None` if either is no positive number: no quota is `max` or -1.
fn ratio(quota: &str, period: &str) -> Option<f64> {
    let (quota, period): (u32, u32) = (quota.parse().ok()?, period.parse().ok()?);
    (quota > 0 && period > 0).then(|| f64::from(quota) / f64::from(period))
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir_all, write};

    use super::*;

    #[test]
    fn the_least_quota_of_all_groups_counts() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        create_dir_all(root.join("a/b")).unwrap();
        assert_eq!(quota_in(root, "0::/a/b\n"), None);
        write(root.join("cpu.max"), "max 100000\n").unwrap();
        write(root.join("a/b/cpu.max"), "250000 100000\n").unwrap();
        assert_eq!(quota_in(root, "0::/a/b\n"), Some(2.5));
        write(root.join("a/cpu.max"), "50000 100000\n").unwrap();
        assert_eq!(quota_in(root, "0::/a/b\n"), Some(0.5));
        assert_eq!(quota_in(root, "0::/\n"), None);
    }

    /// A container sees its own group as the root, under whatever path the host knows it.
    #[test]
    fn a_containers_own_group_counts() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path().join("cpu.max"), "150000 100000\n").unwrap();
        assert_eq!(quota_in(dir.path(), "0::/docker/0123\n"), Some(1.5));
    }

    #[test]
    fn version_1_has_a_folder_for_the_controller() {
        let dir = tempfile::tempdir().unwrap();
        let group = dir.path().join("cpu/a");
        create_dir_all(&group).unwrap();
        write(group.join("cpu.cfs_quota_us"), "-1\n").unwrap();
        write(group.join("cpu.cfs_period_us"), "100000\n").unwrap();
        let groups = "5:memory:/x\n4:cpu,cpuacct:/a\n0::/\n";
        assert_eq!(quota_in(dir.path(), groups), None);
        write(group.join("cpu.cfs_quota_us"), "75000\n").unwrap();
        assert_eq!(quota_in(dir.path(), groups), Some(0.75));
    }

    #[test]
    fn damaged_files_and_lines_are_no_quota() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["", "max", "1", "x y", "0 100000", "100000 0", "99999999999999999999 1", "-5 7"] {
            write(dir.path().join("cpu.max"), text).unwrap();
            assert_eq!(quota_in(dir.path(), "0::/\n"), None, "{text}");
        }
        write(dir.path().join("cpu.max"), "1 2").unwrap();
        assert_eq!(quota_in(dir.path(), "\n0\n0:\n0::/../..\n"), Some(0.5));
        assert_eq!(quota_in(dir.path(), ""), None);
    }

    #[test]
    fn the_process_runs_somewhere() {
        assert!(affinity().is_some_and(|cores| cores >= 1));
    }
}

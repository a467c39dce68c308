/* What control groups allow, in folders made to look like a system's. */
#include "tests/unit/support.h"

#include "src/base/cgroup.h"
#include "src/base/machine.h"

/* Write text into root/path, and make the folders that it is in. */
static void put(const char *root, const char *path, const char *text)
{
    char whole[4096], command[8192];
    snprintf(whole, sizeof whole, "%s/%s", root, path);
    char *slash = strrchr(whole, '/');
    *slash = 0;
    snprintf(command, sizeof command, "mkdir -p '%s'", whole);
    assert_int_equal(system(command), 0);
    *slash = '/';
    write_file(whole, text, strlen(text));
}

#define V2_MOUNT "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
#define V1_MOUNTS                                                                                   \
    "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"                           \
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:7 - cgroup cgroup rw,cpu,cpuacct\n" \
    "33 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"                             \
    "34 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"                             \
    "35 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"

static void nothing_readable_is_no_limit(void **state)
{
    (void)state;
    char *root = make_folder();
    assert_int_equal(lds_cgroup_quota(root), UINT64_MAX);
    assert_int_equal(lds_cgroup_processors(root), 0);
    assert_int_equal(lds_cgroup_memory(root, 0), UINT64_MAX);
    assert_true(lds_threads_available_in(root) >= 1);
    remove_folder(root);
}

static void every_folder_of_version_2_limits(void **state)
{
    (void)state;
    char *root = make_folder();
    put(root, "proc/self/mountinfo", V2_MOUNT);
    put(root, "proc/self/cgroup", "0::/kube/pod/inner\n");
    put(root, "sys/fs/cgroup/kube/pod/inner/cpu.max", "max 100000\n");
    assert_int_equal(lds_cgroup_quota(root), UINT64_MAX);
    put(root, "sys/fs/cgroup/kube/pod/cpu.max", "250000 100000\n");
    assert_int_equal(lds_cgroup_quota(root), 2500);
    put(root, "sys/fs/cgroup/kube/cpu.max", "50000 100000\n");
    assert_int_equal(lds_cgroup_quota(root), 500);
    assert_int_equal(lds_threads_available_in(root), 1);
    put(root, "sys/fs/cgroup/kube/cpu.max", "nonsense\n");
    assert_int_equal(lds_cgroup_quota(root), 2500);

    put(root, "sys/fs/cgroup/kube/pod/inner/cpuset.cpus.effective", "0-3,8,10-11\n");
    assert_int_equal(lds_cgroup_processors(root), 7);
    put(root, "sys/fs/cgroup/kube/pod/inner/cpuset.cpus.effective", "\n");
    assert_int_equal(lds_cgroup_processors(root), 0);
    remove_folder(root);
}

static void version_1_has_a_folder_for_each_controller(void **state)
{
    (void)state;
    char *root = make_folder();
    put(root, "proc/self/mountinfo", V1_MOUNTS);
    put(root, "proc/self/cgroup",
        "4:memory:/m\n3:cpuset:/s\n2:cpu,cpuacct:/docker/x\n1:name=cpu:/wrong\n0::/\n");
    put(root, "sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_quota_us", "-1\n");
    put(root, "sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_period_us", "100000\n");
    assert_int_equal(lds_cgroup_quota(root), UINT64_MAX);
    put(root, "sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_quota_us", "320000\n");
    put(root, "sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_period_us", "100000\n");
    put(root, "sys/fs/cgroup/wrong/cpu.max", "1000 100000\n");
    assert_int_equal(lds_cgroup_quota(root), 3200);
    put(root, "sys/fs/cgroup/cpuset/s/cpuset.effective_cpus", "5\n");
    assert_int_equal(lds_cgroup_processors(root), 1);
    remove_folder(root);
}

static void in_a_container_the_mount_may_begin_further_down(void **state)
{
    (void)state;
    char *root = make_folder();
    put(root, "proc/self/mountinfo", "30 23 0:26 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
    put(root, "proc/self/cgroup", "0::/docker/abc/child\n");
    put(root, "sys/fs/cgroup/child/cpu.max", "300000 100000\n");
    put(root, "sys/fs/cgroup/cpu.max", "400000 100000\n");
    assert_int_equal(lds_cgroup_quota(root), 3000);
    put(root, "proc/self/cgroup", "0::/../elsewhere\n"); /* joined from outside of the name space */
    assert_int_equal(lds_cgroup_quota(root), 4000);
    put(root, "proc/self/cgroup", "0::/docker/abcdef\n");
    assert_int_equal(lds_cgroup_quota(root), 4000);
    put(root, "sys/fs/cgroup/child/cpu.max", "1000 100000\n");
    put(root, "sys/cpu.max", "1000 100000\n"); /* above the mount: nobody's */
    assert_int_equal(lds_cgroup_quota(root), 4000);
    remove_folder(root);
}

static void memory_is_what_the_limit_leaves_beside_what_cannot_be_dropped(void **state)
{
    (void)state;
    char *root = make_folder();
    put(root, "proc/self/mountinfo", V2_MOUNT);
    put(root, "proc/self/cgroup", "0::/a\n");
    put(root, "sys/fs/cgroup/a/memory.max", "max\n");
    put(root, "sys/fs/cgroup/a/memory.current", "700\n");
    assert_int_equal(lds_cgroup_memory(root, 50), UINT64_MAX);
    put(root, "sys/fs/cgroup/a/memory.max", "1000\n");
    assert_int_equal(lds_cgroup_memory(root, 0), 300);
    put(root, "sys/fs/cgroup/a/memory.stat", "anon 100\nfile 600\ninactive_file 400\nactive_file 100\n");
    assert_int_equal(lds_cgroup_memory(root, 0), 800);
    assert_int_equal(lds_cgroup_memory(root, 50), 850);
    put(root, "sys/fs/cgroup/a/memory.swap.max", "30\n");
    put(root, "sys/fs/cgroup/a/memory.swap.current", "10\n");
    assert_int_equal(lds_cgroup_memory(root, 50), 820);
    put(root, "sys/fs/cgroup/a/memory.current", "5000\n");
    assert_int_equal(lds_cgroup_memory(root, 0), 0);
    remove_folder(root);
}

static void memory_of_version_1(void **state)
{
    (void)state;
    char *root = make_folder();
    put(root, "proc/self/mountinfo", V1_MOUNTS);
    put(root, "proc/self/cgroup", "4:memory:/job/step\n");
    put(root, "sys/fs/cgroup/memory/job/step/memory.limit_in_bytes", "9223372036854771712\n");
    put(root, "sys/fs/cgroup/memory/job/step/memory.usage_in_bytes", "10\n");
    assert_int_equal(lds_cgroup_memory(root, 0), UINT64_MAX);
    put(root, "sys/fs/cgroup/memory/job/memory.limit_in_bytes", "5000\n");
    put(root, "sys/fs/cgroup/memory/job/memory.usage_in_bytes", "3000\n");
    put(root, "sys/fs/cgroup/memory/job/memory.stat", "inactive_file 7\ntotal_inactive_file 1000\n");
    assert_int_equal(lds_cgroup_memory(root, 0), 3000);
    assert_int_equal(lds_cgroup_memory(root, 500), 3500);
    put(root, "sys/fs/cgroup/memory/job/memory.memsw.limit_in_bytes", "5100\n");
    put(root, "sys/fs/cgroup/memory/job/memory.memsw.usage_in_bytes", "3000\n");
    assert_int_equal(lds_cgroup_memory(root, 500), 3100);
    remove_folder(root);
}

static void huge_pages_are_limited_twice(void **state)
{
    (void)state;
    char *root = make_folder();
    put(root, "proc/self/mountinfo", V2_MOUNT);
    put(root, "proc/self/cgroup", "0::/a/b\n");
    put(root, "sys/fs/cgroup/a/b/hugetlb.2MB.max", "max\n");
    put(root, "sys/fs/cgroup/a/b/hugetlb.2MB.current", "0\n");
    assert_int_equal(lds_cgroup_hugetlb(root), UINT64_MAX);
    put(root, "sys/fs/cgroup/a/hugetlb.2MB.max", "20971520\n");
    put(root, "sys/fs/cgroup/a/hugetlb.2MB.current", "4194304\n");
    assert_int_equal(lds_cgroup_hugetlb(root), 16777216);
    put(root, "sys/fs/cgroup/a/b/hugetlb.2MB.rsvd.max", "8388608\n");
    put(root, "sys/fs/cgroup/a/b/hugetlb.2MB.rsvd.current", "2097152\n");
    assert_int_equal(lds_cgroup_hugetlb(root), 6291456);

    put(root, "proc/self/mountinfo",
        V1_MOUNTS "36 31 0:33 / /sys/fs/cgroup/hugetlb rw - cgroup cgroup rw,hugetlb\n");
    put(root, "proc/self/cgroup", "5:hugetlb:/c\n0::/\n");
    assert_int_equal(lds_cgroup_hugetlb(root), UINT64_MAX);
    put(root, "sys/fs/cgroup/hugetlb/c/hugetlb.2MB.rsvd.limit_in_bytes", "9223372036854771712\n");
    put(root, "sys/fs/cgroup/hugetlb/c/hugetlb.2MB.rsvd.usage_in_bytes", "0\n");
    assert_int_equal(lds_cgroup_hugetlb(root), UINT64_MAX);
    put(root, "sys/fs/cgroup/hugetlb/c/hugetlb.2MB.limit_in_bytes", "0\n");
    put(root, "sys/fs/cgroup/hugetlb/c/hugetlb.2MB.usage_in_bytes", "0\n");
    assert_int_equal(lds_cgroup_hugetlb(root), 0);
    put(root, "sys/fs/cgroup/hugetlb/c/hugetlb.2MB.limit_in_bytes", "9223372036854771712\n");
    put(root, "sys/fs/cgroup/hugetlb/c/hugetlb.2MB.rsvd.limit_in_bytes", "2097152\n");
    assert_int_equal(lds_cgroup_hugetlb(root), 2097152);
    remove_folder(root);
}

/* ------------------------------------------------------------------------------------------------------- */

static const char *const rank_names[] = {
    "LOCAL_WORLD_SIZE",      "OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "MV2_COMM_WORLD_LOCAL_SIZE",
    "SLURM_NTASKS_PER_NODE", "SLURM_STEP_TASKS_PER_NODE",  "MS_WORKER_NUM"};

static void ranks_share_the_quota(void **state)
{
    (void)state;
    char *root = make_folder();
    put(root, "proc/self/mountinfo", V2_MOUNT);
    put(root, "proc/self/cgroup", "0::/\n");
    for (size_t i = 0; i < sizeof rank_names / sizeof *rank_names; i++)
        unsetenv(rank_names[i]);
    uint32_t all = lds_threads_available_in(root);
    for (size_t i = 0; i < sizeof rank_names / sizeof *rank_names; i++) {
        setenv(rank_names[i], i == 5 ? "60000(x2),3" : "60000", 1);
        assert_int_equal(lds_threads_available_in(root), 1);
        setenv(rank_names[i], "-3 nonsense", 1);
        assert_int_equal(lds_threads_available_in(root), all);
        unsetenv(rank_names[i]);
    }
    if (all > 1) {
        setenv("LOCAL_WORLD_SIZE", "2", 1);
        assert_int_equal(lds_threads_available_in(root), all / 2);
        /* A mask that is no more than a share of the cpuset may be the rank's own: it is not divided again, */
        put(root, "sys/fs/cgroup/cpuset.cpus.effective", "0-4095\n");
        assert_int_equal(lds_threads_available_in(root), all);
        put(root, "sys/fs/cgroup/cpu.max", "200000 100000\n");
        assert_int_equal(lds_threads_available_in(root), 1);
        unsetenv("LOCAL_WORLD_SIZE");
        assert_int_equal(lds_threads_available_in(root), 2);
    }
    remove_folder(root);
}

static void set_number(const char *name, uint32_t value)
{
    char text[16];
    snprintf(text, sizeof text, "%u", value);
    setenv(name, text, 1);
}

/* As where numactl narrows the mask of the launcher, and so that of all ranks. */
static void ranks_share_a_mask_that_is_wider_than_a_share(void **state)
{
    (void)state;
    char *root = make_folder(), cpus[32];
    put(root, "proc/self/mountinfo", V2_MOUNT);
    put(root, "proc/self/cgroup", "0::/\n");
    uint32_t allowed = lds_threads_available_in(root);
    if (allowed > 1 && allowed < 1024) {
        snprintf(cpus, sizeof cpus, "0-%u\n", 2 * allowed - 1);
        put(root, "sys/fs/cgroup/cpuset.cpus.effective", cpus);
        set_number("LOCAL_WORLD_SIZE", 2 * allowed);
        assert_int_equal(lds_threads_available_in(root), 1);
        set_number("LOCAL_WORLD_SIZE", 2);
        assert_int_equal(lds_threads_available_in(root), allowed);
        /* Shares of an odd number differ by one: the larger is not cut. */
        snprintf(cpus, sizeof cpus, "0-%u\n", 2 * allowed - 2);
        put(root, "sys/fs/cgroup/cpuset.cpus.effective", cpus);
        assert_int_equal(lds_threads_available_in(root), allowed);
        unsetenv("LOCAL_WORLD_SIZE");
        set_number("MS_WORKER_NUM", 2 * allowed); /* on how many hosts, nobody says */
        assert_int_equal(lds_threads_available_in(root), allowed);
        unsetenv("MS_WORKER_NUM");
    }
    remove_folder(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_readable_is_no_limit),
        cmocka_unit_test(every_folder_of_version_2_limits),
        cmocka_unit_test(version_1_has_a_folder_for_each_controller),
        cmocka_unit_test(in_a_container_the_mount_may_begin_further_down),
        cmocka_unit_test(memory_is_what_the_limit_leaves_beside_what_cannot_be_dropped),
        cmocka_unit_test(memory_of_version_1),
        cmocka_unit_test(huge_pages_are_limited_twice),
        cmocka_unit_test(ranks_share_the_quota),
        cmocka_unit_test(ranks_share_a_mask_that_is_wider_than_a_share),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The choice of the source, row by row. */
#include "src/plan/policy.h"
#include "tests/unit/support.h"

enum { MIB = 1 << 20 };

static const uint64_t any = 1000 * (uint64_t)MIB;

/* What is chosen for facts, none of which was asked for. */
static void chooses(lds_source_kind kind, const char *reason, lds_policy_facts facts)
{
    lds_choice choice = lds_policy_choose(&facts);
    assert_int_equal(choice.kind, kind);
    assert_string_equal(choice.reason, reason);
    assert_int_equal(choice.looks_first, strcmp(reason, "as asked") != 0);
}

static void what_is_asked_for_is_used(void **state)
{
    (void)state;
    for (int fs = LDS_FS_LOCAL; fs <= LDS_FS_FUSE; fs++)
        for (uint64_t cached = 0; cached <= any; cached += any) {
            lds_policy_facts facts = {LDS_IO_READ, (lds_fs)fs, any, cached, false};
            chooses(LDS_SOURCE_READ, "as asked", facts);
            facts.asked = LDS_IO_URING;
            chooses(LDS_SOURCE_URING, "as asked", facts);
            facts.asked = LDS_IO_DIRECT;
            chooses(LDS_SOURCE_DIRECT, "as asked", facts);
        }
}

static void the_table_decides_otherwise(void **state)
{
    (void)state;
    const struct {
        lds_fs fs;
        uint64_t nbytes, cached;
        lds_source_kind kind;
        const char *reason;
    } cases[] = {
        {LDS_FS_LOCAL, any, 0, LDS_SOURCE_DIRECT, "cold and large"},
        {LDS_FS_LOCAL, any, any / 8, LDS_SOURCE_DIRECT, "cold and large"},
        {LDS_FS_LOCAL, any, any / 8 + 1, LDS_SOURCE_DIRECT, "partly in the page cache"},
        {LDS_FS_LOCAL, any, any - any / 8, LDS_SOURCE_VIEW, "in the page cache"},
        {LDS_FS_LOCAL, any, any, LDS_SOURCE_VIEW, "in the page cache"},
        {LDS_FS_LOCAL, 32 * MIB, 0, LDS_SOURCE_READ, "small"},
        {LDS_FS_LOCAL, 32 * MIB + 1, 0, LDS_SOURCE_DIRECT, "cold and large"},
        {LDS_FS_MEMORY, any, 0, LDS_SOURCE_VIEW, "file system in memory"},
        {LDS_FS_MEMORY, any, any, LDS_SOURCE_VIEW, "file system in memory"},
        {LDS_FS_NETWORK, any, 0, LDS_SOURCE_URING, "network file system"},
        {LDS_FS_NETWORK, MIB, 0, LDS_SOURCE_URING, "network file system"},
        {LDS_FS_NETWORK, any, any / 2, LDS_SOURCE_URING, "network file system"},
        {LDS_FS_NETWORK, any, any - 1, LDS_SOURCE_URING, "network file system"},
        {LDS_FS_NETWORK, any, any, LDS_SOURCE_READ, "in the page cache"},
        {LDS_FS_FUSE, any, 0, LDS_SOURCE_URING, "network file system"},
        {LDS_FS_FUSE, any, any, LDS_SOURCE_READ, "in the page cache"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (lds_io asked = LDS_IO_AUTO; asked <= LDS_IO_MAP; asked++)
            chooses(cases[i].kind, cases[i].reason,
                    (lds_policy_facts){asked, cases[i].fs, cases[i].nbytes, cases[i].cached, false});
}

static void what_is_to_be_kept_is_read_through_the_page_cache(void **state)
{
    (void)state;
    chooses(LDS_SOURCE_URING, "to be kept in the page cache",
            (lds_policy_facts){LDS_IO_AUTO, LDS_FS_LOCAL, any, 0, true});
    chooses(LDS_SOURCE_VIEW, "in the page cache",
            (lds_policy_facts){LDS_IO_AUTO, LDS_FS_LOCAL, any, any, true});
    chooses(LDS_SOURCE_DIRECT, "as asked", (lds_policy_facts){LDS_IO_DIRECT, LDS_FS_LOCAL, any, 0, true});
}

static void one_page_less_is_not_the_whole(void **state)
{
    (void)state;
    for (int fs = LDS_FS_LOCAL; fs <= LDS_FS_FUSE; fs++) {
        lds_policy_facts facts = {LDS_IO_AUTO, (lds_fs)fs, any, any, false};
        assert_true(lds_policy_choose(&facts).is_whole);
        facts.cached_nbytes -= 4096;
        assert_int_equal(lds_policy_choose(&facts).is_whole, fs == LDS_FS_MEMORY);
    }
}

static void every_combination_has_a_row(void **state)
{
    (void)state;
    for (int fs = LDS_FS_LOCAL; fs <= LDS_FS_FUSE; fs++)
        for (uint64_t nbytes = 1; nbytes < any; nbytes *= 7)
            for (int cached = 0; cached <= 10; cached++) {
                const lds_policy_facts facts = {LDS_IO_AUTO, (lds_fs)fs, nbytes,
                                                nbytes * (uint64_t)cached / 10, false};
                assert_non_null(lds_policy_choose(&facts).reason);
            }
}

static void mapped_pages_are_awaited_where_they_are_far(void **state)
{
    (void)state;
    for (int fs = LDS_FS_LOCAL; fs <= LDS_FS_FUSE; fs++) {
        lds_policy_facts facts = {LDS_IO_AUTO, (lds_fs)fs, any, 0, false};
        assert_int_equal(lds_policy_awaits(&facts), fs != LDS_FS_MEMORY);
        facts.read_nbytes = MIB;
        assert_int_equal(lds_policy_awaits(&facts), fs == LDS_FS_NETWORK || fs == LDS_FS_FUSE);
        facts.cached_nbytes = MIB - 1;
        assert_int_equal(lds_policy_awaits(&facts), fs == LDS_FS_NETWORK || fs == LDS_FS_FUSE);
        facts.cached_nbytes = MIB;
        assert_false(lds_policy_awaits(&facts));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_asked_for_is_used),
        cmocka_unit_test(the_table_decides_otherwise),
        cmocka_unit_test(mapped_pages_are_awaited_where_they_are_far),
        cmocka_unit_test(what_is_to_be_kept_is_read_through_the_page_cache),
        cmocka_unit_test(one_page_less_is_not_the_whole),
        cmocka_unit_test(every_combination_has_a_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

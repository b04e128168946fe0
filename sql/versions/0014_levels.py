"""Each comparison says the level of its interval, over how many seeds it is averaged, and its stars: all who show it
read the same. Earlier runs keep their 95 % intervals, which say so; with one seed their stars go."""

from alembic import op

revision = "0014"
down_revision = "0013"

SEEDS = "(select count(distinct m.seed) from metrics m where m.run_id = {run})"


def upgrade() -> None:
    for table, seeds in (
        ("comparisons", SEEDS.format(run="t.run_id")),
        ("earlier_comparisons", f"least({SEEDS.format(run='t.run_id')}, {SEEDS.format(run='t.earlier_run')})"),
    ):
        op.execute(f"""
            alter table {table}
                add column level double precision not null default 0.95, -- of the interval, for all of a family
                add column seeds integer not null default 1,             -- trainings that a user's metrics are means of
                add column stars text not null default ''                -- none with one seed
        """)
        op.execute(f"update {table} t set seeds = greatest({seeds}, 1)")  # noqa: S608, ours
        op.execute(f"""
            update {table} set stars = (case when difference < 0 then '▼' else '' end)
                || (case when p_holm < .001 then '***' when p_holm < .01 then '**' else '*' end)
            where seeds > 1 and p_holm < .05
        """)  # noqa: S608, ours
        for column in ("level", "seeds", "stars"):  # from now on whoever writes says it
            op.execute(f"alter table {table} alter column {column} drop default")
    op.execute("""
        create or replace view tail_report as
        select t.dataset, t.run_id, t.backbone, t.protocol, t.user_group, t.users,
               b."N@10" as base, t."N@10" as llmser, t."N@10" - b."N@10" as difference, c.p_holm, c.low, c.high,
               c.level, c.seeds, c.stars
        from table1 t
        join table1 b on b.run_id = t.run_id and b.protocol = t.protocol and b.user_group = t.user_group
                     and b.model = 'base'
        left join comparisons c on c.run_id = t.run_id and c.protocol = t.protocol and c.user_group = t.user_group
                               and c.metric = 'N@10'
        where t.model = 'llmser'
    """)
    op.execute("""
        create or replace view current_comparisons as
        select c.dataset, c.version, t.* from current_runs c join comparisons t using (run_id)
    """)

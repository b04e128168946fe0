"""What the page in Airflow shows of a run: histories with titles, the histogram of ω, and figures counted once."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.execute("""
        create table histories (
            run_id   text   not null references runs on delete cascade,
            user_id  text   not null,
            item_ids text[] not null, -- S_u, oldest first; the last one is the masked item
            primary key (run_id, user_id)
        )
    """)
    op.execute("""
        create table item_titles ( -- of the run's catalogue; items without a title have no row
            run_id  text not null references runs on delete cascade,
            item_id text not null,
            title   text not null,
            primary key (run_id, item_id)
        )
    """)
    op.execute("""
        create table omega_histogram (
            run_id    text     not null references runs on delete cascade,
            bucket    smallint not null check (bucket between 0 and 19), -- ω from bucket/20 to (bucket + 1)/20
            outcome   text     not null check (outcome in ('right', 'other', 'nothing')), -- what was named, if anything
            users     integer  not null,
            omega_sum double precision not null,
            alpha_sum double precision not null,
            primary key (run_id, bucket, outcome)
        )
    """)
    # LLMSeR of a run against LLMSeR of earlier runs, paired over users; only where both were tested on the same ones.
    op.execute("""
        create table earlier_comparisons (
            run_id      text             not null references runs on delete cascade,
            earlier_run text             not null,
            protocol    text             not null,
            user_group  text             not null,
            metric      text             not null,
            earlier     double precision not null,
            llmser      double precision not null,
            difference  double precision not null,
            low         double precision not null, -- 95 % bootstrap interval of the difference
            high        double precision not null,
            p           double precision not null, -- paired two-sided t-test
            p_holm      double precision not null, -- Holm over these comparisons of the run
            primary key (run_id, earlier_run, protocol, user_group, metric)
        )
    """)
    # The views behind these two read every answer of a run: nothing that a page should wait for.
    op.execute("create table counted_group_costs as select * from user_group_costs with no data")
    op.execute("create table counted_answer_quality as select * from answer_quality with no data")
    for table in ("counted_group_costs", "counted_answer_quality"):
        op.execute(f"alter table {table} add foreign key (run_id) references runs on delete cascade")
        op.execute(f"create index {table}_by_run on {table} (run_id)")
    op.execute("create index runs_by_start on runs (started_at desc, run_id desc)")
    op.execute("create index reliability_by_omega on reliability (run_id, omega, user_id)")
    op.execute("""
        create function count_answers(run text) returns void language sql as $$
            delete from omega_histogram where run_id = run;
            insert into omega_histogram
            select run_id, least(floor(omega * 20), 19),
                   case when named_item is null then 'nothing' when named_item = masked_item then 'right'
                        else 'other' end,
                   count(*), sum(omega), sum(alpha)
            from reliability where run_id = run group by 1, 2, 3;
            delete from counted_group_costs where run_id = run;
            insert into counted_group_costs select * from user_group_costs where run_id = run;
            delete from counted_answer_quality where run_id = run;
            insert into counted_answer_quality select * from answer_quality where run_id = run;
        $$
    """)
    op.execute("select count_answers(run_id) from (select distinct run_id from reliability) scored")

"""What runs spend: who paid for an answer, a budget per run, and the bill by step and by group of users."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.execute("""
        alter table answers
            add column run_id       text,    -- which run paid for it; null: from before that was noted
            add column prompt_bytes integer  -- of the request, to tell how many bytes make a token
    """)
    op.execute("create index answers_by_age on answers (created_at)")
    op.execute("""
        alter table runs
            add column budget         double precision check (budget >= 0), -- null: none
            add column tail_threshold integer                               -- T
    """)
    op.execute("""
        alter table batches
            add column lost  double precision not null default 0, -- at most: requests whose answer or usage never came
            add column held  double precision not null default 0, -- for requests on their way
            add column owner integer                              -- whose held is void once its advisory lock is gone
    """)
    op.execute("alter table picks add column invented integer not null default 0")  # named, but no candidate
    op.execute("""
        create function owner_lives(locks integer, owner integer) returns boolean language sql as $$
            select exists (select from pg_locks where locktype = 'advisory' and granted
                                                  and classid = locks::oid and objid = owner::oid
                                                  and database = (select oid from pg_database
                                                                  where datname = current_database()))
        $$
    """)
    op.execute("drop view run_costs")
    op.execute("""
        create view run_costs as
        select run_id, step, sum(users) as users, sum(answered) as answered, sum(calls) as calls,
               sum(failed) as failed, sum(prompt_tokens) as prompt_tokens,
               sum(completion_tokens) as completion_tokens, sum(cost) as cost, sum(lost) as lost
        from batches group by run_id, step
    """)
    # A question that several users of a run share is paid once, so each bears a part of its price.
    op.execute("""
        create view user_group_costs as
        select p.run_id, p.step,
               case when r.n is null then 'not scored yet' when r.n <= u.tail_threshold then 'tail users'
                    else 'head users' end as user_group,
               count(*) as users,
               sum(case when a.run_id = p.run_id then 1.0 / p.sharing else 0 end) as answers_paid,
               sum(a.prompt_tokens::float8 / p.sharing) filter (where a.run_id = p.run_id) as prompt_tokens,
               sum(a.completion_tokens::float8 / p.sharing) filter (where a.run_id = p.run_id) as completion_tokens,
               sum(a.cost / p.sharing) filter (where a.run_id = p.run_id) as cost
        from (select *, count(*) over (partition by run_id, step, question_key) as sharing
              from picks where question_key is not null) p
        join runs u using (run_id)
        join answers a using (question_key)
        left join reliability r on r.run_id = p.run_id and r.user_id = p.user_id
        group by 1, 2, 3
    """)
    # Where picks come from, what was named that is no candidate, and how many answers were of no use.
    op.execute("""
        create view answer_quality as
        select p.run_id, p.step, a.answered_by,
               count(*) as users,
               count(*) filter (where cardinality(p.item_ids) = 0) as without_picks,
               sum(p.invented) as invented,
               coalesce(sum(s.strict), 0) as strict, coalesce(sum(s.repaired), 0) as repaired,
               coalesce(sum(s.id_pattern), 0) as id_pattern, coalesce(sum(s.fuzzy), 0) as fuzzy,
               coalesce(sum(s.fill), 0) as fill
        from picks p
        join answers a using (question_key)
        cross join lateral (
            select count(*) filter (where source = 'strict') as strict,
                   count(*) filter (where source = 'repaired') as repaired,
                   count(*) filter (where source = 'id-pattern') as id_pattern,
                   count(*) filter (where source = 'fuzzy') as fuzzy,
                   count(*) filter (where source = 'fill') as fill
            from unnest(p.sources) as source
        ) s
        group by p.run_id, p.step, a.answered_by
    """)

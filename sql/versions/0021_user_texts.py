"""Question steps whose answers are texts: what a model wrote about each user, beside what it picked."""

from alembic import op

revision = "0021"
down_revision = "0019"


def upgrade() -> None:
    op.execute("""
        create table user_texts (
            run_id       text not null references runs on delete cascade,
            step         text not null,
            user_id      text not null,
            question_key text,          -- → answers; null: there was nothing to ask, see reason
            text         text,          -- one clean line; null where nothing usable was said, see reason
            source       text,          -- strict | repaired | prose
            reason       text,          -- why there is no text
            primary key (run_id, step, user_id)
        )
    """)
    # What was made of each user's answer, whatever the step's answers are.
    op.execute("""
        create view answered as
        select run_id, step, user_id, question_key, reason from picks
        union all
        select run_id, step, user_id, question_key, reason from user_texts
    """)
    op.execute("""
        create or replace view user_group_costs as
        select p.run_id, p.step,
               case when r.n is null then 'not scored yet' when r.n <= u.tail_threshold then 'tail users'
                    else 'head users' end as user_group,
               count(*) as users,
               sum(case when a.run_id = p.run_id then 1.0 / p.sharing else 0 end) as answers_paid,
               sum(a.prompt_tokens::float8 / p.sharing) filter (where a.run_id = p.run_id) as prompt_tokens,
               sum(a.completion_tokens::float8 / p.sharing) filter (where a.run_id = p.run_id) as completion_tokens,
               sum(a.cost / p.sharing) filter (where a.run_id = p.run_id) as cost
        from (select *, count(*) over (partition by run_id, step, question_key) as sharing
              from answered where question_key is not null) p
        join runs u using (run_id)
        join answers a using (question_key)
        left join reliability r on r.run_id = p.run_id and r.user_id = p.user_id
        group by 1, 2, 3
    """)
    # Of texts: how many came as agreed, and how many answers were of no use; prose is an answer that was mended. They
    # name no candidates, so none is invented.
    op.execute("""
        create or replace view answer_quality as
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
        union all
        select t.run_id, t.step, a.answered_by,
               count(*), count(*) filter (where t.text is null), null::bigint,
               (count(*) filter (where t.source = 'strict'))::numeric,
               (count(*) filter (where t.source in ('repaired', 'prose')))::numeric, 0, 0, 0
        from user_texts t
        join answers a using (question_key)
        group by t.run_id, t.step, a.answered_by
    """)

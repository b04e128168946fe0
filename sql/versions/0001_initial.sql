-- The warehouse: everything small and relational about runs. Large, columnar data stays in the artefact store.
-- User and item ids are the dump's own; texts from dumps and LLMs are data and never interpreted.

create table runs (
    run_id       text primary key,
    dataset      text        not null,
    config       jsonb       not null,            -- RunConfig as it ran, flat names
    state        text        not null default 'running' check (state in ('running', 'succeeded', 'failed')),
    synthetic    boolean     not null default false,
    code_version text        not null,
    message      text,                            -- why it failed, in one sentence
    started_at   timestamptz not null default now(),
    finished_at  timestamptz
);
create index runs_by_dataset on runs (dataset, started_at desc);

-- One row per step (and part of it: a user batch, a seed); also the live progress people follow.
create table steps (
    run_id      text        not null references runs on delete cascade,
    step        text        not null,
    part        text        not null default '',
    state       text        not null check (state in ('running', 'done', 'unchanged', 'failed')),
    done        bigint,
    total       bigint,
    unit        text,
    note        text,                             -- "epoch 7, NDCG@10 .0412"
    summary     jsonb,                            -- small facts the step returned
    peak_mib    integer,                          -- peak resident memory of the process so far
    started_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now(),
    finished_at timestamptz,
    primary key (run_id, step, part)
);

-- The ledger: one row per distinct question. Answers are shared between users, runs and datasets.
create table answers (
    question_key      text primary key,           -- sha256 of model, parameters, prompt version, messages
    step              text        not null,       -- snf | reason
    prompt_version    text        not null,
    model             text        not null,       -- as asked for
    answered_by       text,                       -- as the response names it
    content           text,                       -- null: failed for good, see failure
    failure           text,                       -- content-filter | too-long | …
    finish_reason     text,
    prompt_tokens     integer,
    completion_tokens integer,
    cost              double precision,           -- in the price table's currency; null where no price is known
    attempts          integer     not null,
    latency_ms        integer,
    created_at        timestamptz not null default now(),
    check (content is not null or failure is not null)
);

-- The shared rate limit: one row per endpoint, updated in place by every process that asks it. Unlogged: it is worth
-- nothing after a crash. Times are seconds since 1970 by this server's clock; the next free slot of each limit.
create unlogged table endpoint_limits (
    endpoint      text primary key,               -- name and URL
    requests_at   double precision not null default 0,
    tokens_at     double precision not null default 0,
    blocked_until double precision not null default 0
) with (fillfactor = 20);

-- One row per mapped task: what a batch of users cost and how it ended.
create table batches (
    run_id            text    not null references runs on delete cascade,
    step              text    not null,           -- snf | reason
    batch             integer not null,
    label             text    not null,           -- "users 0–511"
    users             integer not null,
    answered          integer not null default 0, -- usable or failed for good: nothing left to ask
    calls             integer not null default 0, -- paid for, over all attempts of this batch in this run
    failed            integer not null default 0, -- still unanswered for a passing reason
    prompt_tokens     bigint  not null default 0,
    completion_tokens bigint  not null default 0,
    cost              double precision,
    state             text    not null check (state in ('running', 'done', 'failed')),
    message           text,
    updated_at        timestamptz not null default now(),
    primary key (run_id, step, batch)
);

-- What each user was asked in a run and what was made of the answer.
create table picks (
    run_id       text    not null references runs on delete cascade,
    step         text    not null,                -- snf | reason
    user_id      text    not null,
    question_key text,                            -- → answers; null: there was nothing to ask, see reason
    shuffle_seed bigint,                          -- order in which the candidates were shown
    item_ids     text[]  not null,                -- likeliest first
    sources      text[]  not null,                -- per pick: strict | repaired | id-pattern | fuzzy | fill
    reason       text,                            -- why nothing was usable
    primary key (run_id, step, user_id)
);

-- Pseudo-prior items in sequence order: the last one stands next to the user's first real item.
create table pseudo_items (
    run_id   text   not null references runs on delete cascade,
    user_id  text   not null,
    item_ids text[] not null,
    titles   text[] not null,
    sources  text[] not null,
    primary key (run_id, user_id)
);

create table reliability (
    run_id       text             not null references runs on delete cascade,
    user_id      text             not null,
    n            integer          not null,       -- n_u
    masked_item  text             not null,
    masked_title text,
    named_item   text,
    named_title  text,
    source       text,                            -- strict | … | rcs (without Reason) | none (without ARV)
    omega        double precision not null check (omega between 0 and 1),
    alpha        double precision not null check (alpha between 0 and 1),
    reason       text,                            -- why ω is 0 without a comparison
    encoder_hash text             not null,       -- sha256 of the BERT weights
    primary key (run_id, user_id)
);

create table metrics (
    run_id     text             not null references runs on delete cascade,
    model      text             not null,         -- base | llmser | popularity | cooccurrence
    seed       integer          not null,
    protocol   text             not null,         -- full | uniform-100
    user_group text             not null,         -- all | tail users | head users | tail items | head items | n=1 …
    metric     text             not null,         -- H@10 | N@10 | H@20 | N@20 | MRR
    value      double precision not null,
    users      integer          not null,
    primary key (run_id, model, seed, protocol, user_group, metric)
);

-- LLMSeR against base, paired over users.
create table comparisons (
    run_id     text             not null references runs on delete cascade,
    protocol   text             not null,
    user_group text             not null,
    metric     text             not null,
    base       double precision not null,
    llmser     double precision not null,
    difference double precision not null,
    low        double precision not null,         -- 95 % bootstrap interval of the difference
    high       double precision not null,
    p          double precision not null,         -- paired two-sided t-test
    p_holm     double precision not null,         -- Holm over this run's comparisons
    primary key (run_id, protocol, user_group, metric)
);

create table recommendations (
    run_id   text   not null references runs on delete cascade,
    user_id  text   not null,
    item_ids text[] not null,                     -- best first
    scores   real[] not null,
    primary key (run_id, user_id)
);

create table reports (
    run_id     text primary key references runs on delete cascade,
    html       text        not null,
    created_at timestamptz not null default now()
);

-- Views for people ------------------------------------------------------------------------------------------------

create view table1 as
select r.dataset, m.run_id, r.config ->> 'backbone' as backbone, m.protocol, m.model, m.user_group,
       count(distinct m.seed) as seeds,
       max(m.users) as users,
       avg(m.value) filter (where m.metric = 'H@10') as "H@10",
       avg(m.value) filter (where m.metric = 'N@10') as "N@10",
       avg(m.value) filter (where m.metric = 'H@20') as "H@20",
       avg(m.value) filter (where m.metric = 'N@20') as "N@20",
       avg(m.value) filter (where m.metric = 'MRR') as "MRR"
from metrics m join runs r using (run_id)
group by r.dataset, m.run_id, r.config ->> 'backbone', m.protocol, m.model, m.user_group;

create view tail_report as
select t.dataset, t.run_id, t.backbone, t.protocol, t.user_group, t.users,
       b."N@10" as base, t."N@10" as llmser, t."N@10" - b."N@10" as difference, c.p_holm
from table1 t
join table1 b on b.run_id = t.run_id and b.protocol = t.protocol and b.user_group = t.user_group and b.model = 'base'
left join comparisons c on c.run_id = t.run_id and c.protocol = t.protocol and c.user_group = t.user_group
                       and c.metric = 'N@10'
where t.model = 'llmser';

create view run_costs as
select run_id, step, sum(users) as users, sum(answered) as answered, sum(calls) as calls, sum(failed) as failed,
       sum(prompt_tokens) as prompt_tokens, sum(completion_tokens) as completion_tokens, sum(cost) as cost
from batches group by run_id, step;

create view recommended_items as
select run_id, user_id, rank, item_id, score
from recommendations, unnest(item_ids, scores) with ordinality as listed (item_id, score, rank);

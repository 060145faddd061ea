-- The team's store. What a member may do is decided here and nowhere else: the kernel that connects runs anything.
--
-- Who one is, is the login: session_user, which only a superuser can change. Tables are read through row-level security
-- and written through functions; time is the server's. Members get no right on a partition, which has no policies.

CREATE TABLE ipyrouter.team (
    name text PRIMARY KEY CHECK (name != '' AND length(name) <= 100),
    content boolean NOT NULL DEFAULT false,     -- whether prompts and answers are logged
    shares_cache boolean NOT NULL DEFAULT true  -- whether a member gets what another has paid for
);

CREATE TABLE ipyrouter.member (
    name text PRIMARY KEY CHECK (name != '' AND length(name) <= 100), -- the role that logs in
    team text NOT NULL REFERENCES ipyrouter.team,
    lead boolean NOT NULL DEFAULT false         -- sees the costs of the whole team, never its texts
);

-- What a team may spend. member: '' is the team together, '*' each of its members, a name that member.
CREATE TABLE ipyrouter.budget (
    team text NOT NULL REFERENCES ipyrouter.team,
    member text NOT NULL DEFAULT '',
    period text NOT NULL CHECK (period IN ('call', 'session', 'day', 'month')),
    pico numeric NOT NULL CHECK (pico >= 0),
    PRIMARY KEY (team, member, period),
    CHECK (member != '' OR period IN ('day', 'month'))
);

-- What a team may ask a minute; member as above.
CREATE TABLE ipyrouter.rate (
    team text NOT NULL REFERENCES ipyrouter.team,
    member text NOT NULL DEFAULT '',
    unit text NOT NULL CHECK (unit IN ('requests', 'tokens')),
    most bigint NOT NULL CHECK (most > 0),
    PRIMARY KEY (team, member, unit)
);

-- Rows of a month stand in a partition, so that retention is dropping one.

CREATE DOMAIN ipyrouter.name AS text COLLATE "C" CHECK (length(value) <= 500);
CREATE DOMAIN ipyrouter.words AS text CHECK (length(value) <= 4000000); -- a prompt of a million tokens, and more
CREATE DOMAIN ipyrouter.instant AS bigint CHECK (value BETWEEN 0 AND 32503680000000000); -- microseconds since 1970
CREATE DOMAIN ipyrouter.tokens AS bigint CHECK (value BETWEEN 0 AND 9007199254740992);
CREATE DOMAIN ipyrouter.pico AS bigint CHECK (value BETWEEN 0 AND 9000000000000000000);  -- 1e-12 dollars
CREATE DOMAIN ipyrouter.seconds AS double precision CHECK (value BETWEEN 0 AND 1000000);
CREATE DOMAIN ipyrouter.flag AS smallint CHECK (value IN (0, 1));

CREATE TABLE ipyrouter.answers (
    time ipyrouter.instant NOT NULL,
    id ipyrouter.name NOT NULL,
    member text NOT NULL,
    team text NOT NULL,
    session ipyrouter.name NOT NULL,
    notebook text CHECK (length(notebook) <= 4096),
    tags text CHECK (length(tags) <= 4096), -- in the order of the alphabet, with commas between them
    tier ipyrouter.name NOT NULL,
    routed_tier ipyrouter.name NOT NULL,
    difficulty double precision NOT NULL CHECK (difficulty BETWEEN 0 AND 1),
    escalated_from ipyrouter.name,
    fallback_from ipyrouter.name,
    provider ipyrouter.name NOT NULL,
    model ipyrouter.name NOT NULL,
    feedback text CHECK (feedback IN ('good', 'bad')),
    outcome ipyrouter.name NOT NULL,
    restored ipyrouter.flag NOT NULL,
    head ipyrouter.tokens,
    answered ipyrouter.flag,
    calls ipyrouter.tokens,
    unpriced ipyrouter.tokens,
    spent_pico ipyrouter.pico,
    took ipyrouter.pico, -- nanoseconds
    escalated ipyrouter.tokens,
    escalated_unpriced ipyrouter.tokens,
    escalated_pico ipyrouter.pico,
    PRIMARY KEY (id, time)
) PARTITION BY RANGE (time);
CREATE INDEX ON ipyrouter.answers (member, time);

CREATE TABLE ipyrouter.attempts (
    time ipyrouter.instant NOT NULL,
    answer_id ipyrouter.name NOT NULL,
    n smallint NOT NULL CHECK (n >= 0),
    member text NOT NULL,
    team text NOT NULL,
    session ipyrouter.name NOT NULL,
    tier ipyrouter.name NOT NULL,
    provider ipyrouter.name NOT NULL,
    model ipyrouter.name NOT NULL,
    status ipyrouter.name NOT NULL,
    input_tokens ipyrouter.tokens NOT NULL,
    output_tokens ipyrouter.tokens NOT NULL,
    cached_input_tokens ipyrouter.tokens NOT NULL,
    cache_write_tokens ipyrouter.tokens NOT NULL,
    reasoning_tokens ipyrouter.tokens NOT NULL,
    estimated ipyrouter.flag NOT NULL,
    cost_pico ipyrouter.pico,
    saved_pico ipyrouter.pico,
    price_id ipyrouter.name,
    rates text CHECK (length(rates) <= 4096),
    latency ipyrouter.seconds NOT NULL,
    first_token ipyrouter.seconds,
    finish ipyrouter.name,
    error_kind ipyrouter.name,
    restored ipyrouter.flag NOT NULL,
    PRIMARY KEY (answer_id, n, time)
) PARTITION BY RANGE (time);
CREATE INDEX ON ipyrouter.attempts (member, time, answer_id, n);
CREATE INDEX ON ipyrouter.attempts (time, answer_id, n);

-- What was written and answered, apart from what it cost: a lead reads the tables above, never these.
CREATE TABLE ipyrouter.texts (
    time ipyrouter.instant NOT NULL,
    answer_id ipyrouter.name NOT NULL,
    member text NOT NULL,
    prompt ipyrouter.words,
    system ipyrouter.words,
    text ipyrouter.words,
    reasons ipyrouter.words NOT NULL,
    notes ipyrouter.words NOT NULL,
    PRIMARY KEY (answer_id, time)
) PARTITION BY RANGE (time);

CREATE TABLE ipyrouter.attempt_texts (
    time ipyrouter.instant NOT NULL,
    answer_id ipyrouter.name NOT NULL,
    n smallint NOT NULL,
    member text NOT NULL,
    error ipyrouter.words,
    text ipyrouter.words,
    PRIMARY KEY (answer_id, n, time)
) PARTITION BY RANGE (time);

-- What an attempt adds to a sum: the daily sums and a scan of the rows read the same expressions. What a request as a
-- whole comes to is added to the row of one of its attempts, its head. The server puts the body into the statement that
-- calls it, so that it reads no column but those that are asked for.
CREATE FUNCTION ipyrouter.measure(t ipyrouter.attempts, a ipyrouter.answers)
RETURNS TABLE (
    final boolean, priced boolean, band int, rows int, sent int, unpriced int, cost_pico bigint, saved_pico bigint,
    unsaved int, took double precision, requests int, calls bigint, calls_unpriced bigint, calls_pico bigint,
    calls_took bigint, fallbacks int, escalations int, escalated_unpriced bigint, escalated_pico bigint,
    most_pico bigint, most_took bigint)
LANGUAGE sql STABLE AS $$
    SELECT
        a.answered = 1 AND a.head = t.n,
        a.unpriced = 0,
        (t.input_tokens > 32000)::int + (t.input_tokens > 100000)::int + (t.input_tokens > 128000)::int
            + (t.input_tokens > 199999)::int + (t.input_tokens > 200000)::int + (t.input_tokens > 256000)::int
            + (t.input_tokens > 272000)::int + (t.input_tokens > 512000)::int + (t.input_tokens > 524288)::int,
        1,
        (t.status != 'cached' AND t.error_kind IS DISTINCT FROM 'cooling_down')::int,
        (t.cost_pico IS NULL)::int,
        COALESCE(t.cost_pico::bigint, 0),
        COALESCE(t.saved_pico::bigint, 0),
        (t.status = 'cached' AND t.saved_pico IS NULL)::int,
        floor(t.latency * 1e9),
        (a.head = t.n)::int,
        (a.head = t.n)::int * a.calls,
        (a.head = t.n)::int * a.unpriced,
        (a.head = t.n)::int * a.spent_pico,
        (a.head = t.n)::int * a.took,
        (a.head = t.n AND a.fallback_from IS NOT NULL)::int,
        (a.head = t.n AND a.escalated > 0)::int,
        (a.head = t.n)::int * a.escalated_unpriced,
        (a.head = t.n)::int * a.escalated_pico,
        (a.head = t.n)::int * a.spent_pico,
        (a.head = t.n)::int * a.took
$$;

CREATE VIEW ipyrouter.measured WITH (security_invoker = true) AS
SELECT
    t.time, a.time AS answer_time, t.answer_id, t.n, t.session, a.notebook, t.input_tokens AS read_tokens,
    t.time / 86400000000 AS day, t.team, t.member, COALESCE(a.tags, '') AS tags, t.tier, t.provider, t.model, t.status,
    t.input_tokens, t.output_tokens, t.cached_input_tokens, t.cache_write_tokens, t.reasoning_tokens, m.*
FROM ipyrouter.attempts t
JOIN ipyrouter.answers a ON a.id = t.answer_id AND a.time = t.time
CROSS JOIN LATERAL ipyrouter.measure(t, a) m;

-- Reports read a row a day and combination, not the attempts; kept in the transaction that writes an attempt.
CREATE TABLE ipyrouter.sums (
    day int NOT NULL,
    team text NOT NULL,
    member text NOT NULL,
    tags text NOT NULL,
    tier text NOT NULL,
    provider text NOT NULL,
    model text NOT NULL,
    status text NOT NULL,
    final boolean NOT NULL,
    priced boolean NOT NULL,
    band smallint NOT NULL,
    slot smallint NOT NULL, -- a row for some connections each, so that a member's do not wait for each other
    rows bigint NOT NULL,
    sent bigint NOT NULL,
    unpriced bigint NOT NULL,
    cost_pico numeric NOT NULL,
    saved_pico numeric NOT NULL,
    unsaved bigint NOT NULL,
    input_tokens numeric NOT NULL,
    output_tokens numeric NOT NULL,
    cached_input_tokens numeric NOT NULL,
    cache_write_tokens numeric NOT NULL,
    reasoning_tokens numeric NOT NULL,
    took numeric NOT NULL,
    requests bigint NOT NULL,
    calls numeric NOT NULL,
    calls_unpriced numeric NOT NULL,
    calls_pico numeric NOT NULL,
    calls_took numeric NOT NULL,
    fallbacks bigint NOT NULL,
    escalations bigint NOT NULL,
    escalated_unpriced numeric NOT NULL,
    escalated_pico numeric NOT NULL,
    most_pico bigint NOT NULL,
    most_took bigint NOT NULL,
    PRIMARY KEY (day, member, team, tags, tier, provider, model, status, final, priced, band, slot)
) WITH (fillfactor = 70); -- room to change a row where it stands

CREATE INDEX ON ipyrouter.sums (member, day);
CREATE INDEX ON ipyrouter.sums (team, day);

-- What was spent, by day in which it was recorded; a session's or a run's is of day 0. And what a member's answers take
-- in the cache, in bytes. A counter is the sum of its slots, because a row that all of a team change would be waited for.
CREATE TABLE ipyrouter.counter (
    scope text NOT NULL CHECK (scope IN ('session', 'run', 'member', 'team', 'cache')),
    name text NOT NULL,
    day int NOT NULL,
    slot smallint NOT NULL,
    value numeric NOT NULL,
    PRIMARY KEY (scope, name, day, slot)
) WITH (fillfactor = 70);

CREATE TABLE ipyrouter.reservation (
    id ipyrouter.name PRIMARY KEY,
    team text NOT NULL,
    member text NOT NULL,
    session ipyrouter.name NOT NULL,
    owner ipyrouter.name NOT NULL,
    pico ipyrouter.pico NOT NULL,
    expires bigint NOT NULL,
    run ipyrouter.name NOT NULL DEFAULT ''
);
CREATE INDEX ON ipyrouter.reservation (team);
CREATE INDEX ON ipyrouter.reservation (owner);

-- The calls of the last minute, where a rate is set: a server that crashes may forget them.
CREATE UNLOGGED TABLE ipyrouter.minute (
    id ipyrouter.name PRIMARY KEY, -- the reservation's
    team text NOT NULL,
    member text NOT NULL,
    moment bigint NOT NULL,
    tokens bigint NOT NULL
);
CREATE INDEX ON ipyrouter.minute (team, moment);

-- Services that have answered a member's call with a fault of their own, for at most a minute.
CREATE UNLOGGED TABLE ipyrouter.outage (
    team text NOT NULL,
    model ipyrouter.name NOT NULL, -- with its service
    member text NOT NULL,
    status int NOT NULL, -- of HTTP
    until bigint NOT NULL,
    PRIMARY KEY (team, model)
);

CREATE TABLE ipyrouter.cache (
    scope text NOT NULL, -- a team's name or, where the members share nothing, '@' and a member's
    key bytea NOT NULL CHECK (length(key) <= 64),
    member text NOT NULL,
    created bigint NOT NULL,
    used bigint NOT NULL,
    size bigint NOT NULL,
    provider ipyrouter.name NOT NULL,
    model ipyrouter.name NOT NULL,
    tier ipyrouter.name NOT NULL,
    text ipyrouter.words NOT NULL,
    usage jsonb NOT NULL CHECK (octet_length(usage::text) <= 4096),
    finish ipyrouter.name NOT NULL,
    cost_pico ipyrouter.pico,
    escalated_from ipyrouter.name,
    PRIMARY KEY (scope, key)
);
CREATE INDEX ON ipyrouter.cache (member, used);
CREATE INDEX ON ipyrouter.cache (member, created); -- every new answer looks for those that are too old

CREATE TABLE ipyrouter.claim (
    scope text NOT NULL,
    key bytea NOT NULL CHECK (length(key) <= 64),
    member text NOT NULL,
    owner ipyrouter.name NOT NULL,
    expires bigint NOT NULL,
    PRIMARY KEY (scope, key)
);
CREATE INDEX ON ipyrouter.claim (owner);

-- Prompts over a column: how far each is, for its member alone.
CREATE TABLE ipyrouter.runs (
    member text NOT NULL,
    id ipyrouter.name NOT NULL,
    created ipyrouter.instant NOT NULL,
    updated ipyrouter.instant NOT NULL,
    state jsonb NOT NULL CHECK (jsonb_typeof(state) = 'object'),
    CONSTRAINT state_of_at_most_64_mb CHECK (octet_length(state::text) <= 64000000),
    PRIMARY KEY (member, id)
);

-- The cached answers that a member's run keeps, whoever of the team has paid for them.
CREATE TABLE ipyrouter.run_rows (
    scope text NOT NULL, -- as in the cache
    key bytea NOT NULL CHECK (length(key) <= 64),
    member text NOT NULL,
    run ipyrouter.name NOT NULL,
    PRIMARY KEY (scope, key, member, run)
);
CREATE INDEX ON ipyrouter.run_rows (member, run);

-- --- who and when ---

CREATE FUNCTION ipyrouter.now_us() RETURNS bigint LANGUAGE sql VOLATILE
AS $$ SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint $$;

CREATE FUNCTION ipyrouter.me() RETURNS ipyrouter.member LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE one ipyrouter.member;
BEGIN
    SELECT * INTO one FROM ipyrouter.member WHERE name = session_user;
    IF NOT FOUND THEN
        RAISE EXCEPTION '% is not a member of any team', session_user USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN one;
END $$;

-- What the functions below need to know of the caller in one look; no row for who is not a member.
CREATE VIEW ipyrouter.caller AS
SELECT m.name, m.team, t.content, CASE WHEN t.shares_cache THEN t.name ELSE '@' || m.name END AS scope
FROM ipyrouter.member m JOIN ipyrouter.team t ON t.name = m.team
WHERE m.name = session_user;

-- The teams whose costs the caller may see.
CREATE FUNCTION ipyrouter.led() RETURNS text[] LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$ SELECT COALESCE(array_agg(team), '{}') FROM ipyrouter.member WHERE name = session_user AND lead $$;

-- What a kernel has to know before it begins.
CREATE FUNCTION ipyrouter.hello() RETURNS jsonb LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
    SELECT jsonb_build_object(
        'version', (SELECT max(version) FROM ipyrouter.schema_version), 'member', me.name, 'team', me.team,
        'lead', me.lead)
    FROM ipyrouter.me() me
$$;

-- --- partitions ---

CREATE FUNCTION ipyrouter.month_of(at bigint) RETURNS text LANGUAGE sql STABLE
AS $$ SELECT to_char(to_timestamp(at / 1000000) AT TIME ZONE 'UTC', 'YYYY_MM') $$;

CREATE FUNCTION ipyrouter.make_partition(at bigint) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    first timestamptz := date_trunc('month', to_timestamp(at / 1000000), 'UTC');
    suffix text := '_' || ipyrouter.month_of(at);
    since bigint := extract(epoch FROM first)::bigint * 1000000;
    until bigint := extract(epoch FROM (first AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC')::bigint * 1000000;
    part text;
BEGIN
    IF to_regclass('ipyrouter.attempt_texts' || suffix) IS NOT NULL THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('ipyrouter partitions', 0));
    FOREACH part IN ARRAY ARRAY['answers', 'attempts', 'texts', 'attempt_texts'] LOOP
        IF to_regclass('ipyrouter.' || part || suffix) IS NULL THEN
            EXECUTE format('CREATE TABLE ipyrouter.%I PARTITION OF ipyrouter.%I FOR VALUES FROM (%s) TO (%s)',
                part || suffix, part, since, until);
        END IF;
    END LOOP;
END $$;

-- Drop the partitions of whole months before a time; with only_texts those of prompts and answers alone. Runs that
-- have not gone on since then hold prompts, and go too. The daily sums stay, so that reports go on. Only the owner may.
CREATE FUNCTION ipyrouter.prune(before bigint, only_texts boolean) RETURNS int LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    last text := ipyrouter.month_of(before);
    part record;
    dropped int := 0;
BEGIN
    FOR part IN
        SELECT child.relname AS name FROM pg_inherits
        JOIN pg_class child ON child.oid = inhrelid JOIN pg_class parent ON parent.oid = inhparent
        JOIN pg_namespace space ON space.oid = parent.relnamespace AND space.nspname = 'ipyrouter'
        WHERE parent.relname IN ('answers', 'attempts', 'texts', 'attempt_texts') AND parent.relkind = 'p'
            AND right(child.relname, 7) < last AND (parent.relname LIKE '%texts' OR NOT only_texts)
        ORDER BY child.relname
    LOOP
        EXECUTE format('DROP TABLE ipyrouter.%I', part.name);
        dropped := dropped + 1;
    END LOOP;
    WITH old AS (DELETE FROM ipyrouter.runs WHERE updated < before RETURNING member, id)
    DELETE FROM ipyrouter.run_rows USING old WHERE run_rows.member = old.member AND run_rows.run = old.id;
    RETURN dropped;
END $$;

-- --- the log ---

-- Write one request. mode: 'record' happens now; 'late' happened while the server was away, and is spent now;
-- 'restore' is from a notebook, and is not spent. Return false where it is there already.
CREATE FUNCTION ipyrouter.record(body jsonb, mode text) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '8s' SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    who ipyrouter.caller;
    moment bigint := ipyrouter.now_us();
    at bigint := moment;
    request jsonb := body -> 'request';
    one ipyrouter.answers;
    cost numeric;
    paid numeric; -- the cost without what came from the cache
BEGIN
    SELECT * INTO who FROM ipyrouter.caller;
    IF NOT FOUND THEN
        PERFORM ipyrouter.me(); -- says so
    END IF;
    IF mode = 'restore' THEN
        at := LEAST(GREATEST((request ->> 'time')::bigint, 1577836800000000), moment); -- since 2020
    ELSIF mode = 'late' THEN
        at := LEAST(GREATEST((request ->> 'time')::bigint, moment - 31 * 86400000000), moment);
    ELSIF mode IS DISTINCT FROM 'record' THEN
        RAISE EXCEPTION 'unknown mode %', mode USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF jsonb_array_length(body -> 'attempts') NOT BETWEEN 1 AND 1000 THEN
        RAISE EXCEPTION 'a request has 1 to 1000 attempts' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF to_regclass('ipyrouter.attempt_texts_' || ipyrouter.month_of(at)) IS NULL THEN
        PERFORM ipyrouter.make_partition(at);
    END IF;
    -- A record that is sent again, because its answer was lost, waits for the first one and finds it.
    PERFORM pg_advisory_xact_lock(hashtextextended(request ->> 'id', 1));
    IF body ->> 'owner' != '' THEN
        WITH claimed AS (DELETE FROM ipyrouter.claim WHERE owner = body ->> 'owner' AND member = who.name)
        DELETE FROM ipyrouter.reservation WHERE owner = body ->> 'owner' AND member = who.name;
    END IF;
    IF EXISTS (SELECT FROM ipyrouter.answers WHERE id = request ->> 'id') THEN
        RETURN false;
    END IF;

    one := jsonb_populate_record(NULL::ipyrouter.answers, request || jsonb_build_object(
        'time', at, 'member', who.name, 'team', who.team, 'restored', (mode = 'restore')::int, 'feedback', NULL));
    WITH answer AS (INSERT INTO ipyrouter.answers SELECT one.*)
    INSERT INTO ipyrouter.texts VALUES (
        at, one.id, who.name,
        CASE WHEN who.content THEN request ->> 'prompt' END, CASE WHEN who.content THEN request ->> 'system' END,
        CASE WHEN who.content THEN request ->> 'text' END,
        CASE WHEN who.content THEN request ->> 'reasons' ELSE '[]' END, request ->> 'notes');
    IF body @? '$.attempts[*] ? (@.error != null || @.text != null)' THEN
        INSERT INTO ipyrouter.attempt_texts
        SELECT at, one.id, (attempt ->> 'n')::smallint, who.name, attempt ->> 'error',
            CASE WHEN who.content THEN attempt ->> 'text' END
        FROM jsonb_array_elements(body -> 'attempts') attempt
        WHERE attempt ->> 'error' IS NOT NULL OR (who.content AND attempt ->> 'text' IS NOT NULL);
    END IF;

    IF body ? 'run' THEN
        PERFORM ipyrouter.pin(body ->> 'run',
            ARRAY[decode(COALESCE(body ->> 'touch', body -> 'cache' ->> 'key'), 'hex')]);
    END IF;
    IF body ? 'touch' THEN
        UPDATE ipyrouter.cache SET used = moment
        WHERE scope = who.scope AND key = decode(body ->> 'touch', 'hex')
            AND used NOT BETWEEN moment - 86400000000 AND moment;
    ELSIF body ? 'cache' THEN
        PERFORM ipyrouter.put(who, body -> 'cache', moment);
    END IF;

    -- Last what others wait for, and in one order, so that no two wait for each other.
    WITH new AS (
        INSERT INTO ipyrouter.attempts AS written
        SELECT t.* FROM jsonb_array_elements(body -> 'attempts') attempt, jsonb_populate_record(
            NULL::ipyrouter.attempts, attempt || jsonb_build_object(
                'time', at, 'answer_id', one.id, 'session', one.session, 'member', who.name, 'team', who.team,
                'restored', one.restored)) t
        RETURNING written AS row, status, cost_pico
    ), summed AS (
        INSERT INTO ipyrouter.sums AS s
        SELECT at / 86400000000, who.team, who.name, COALESCE(one.tags, ''), (t.row).tier, (t.row).provider,
            (t.row).model, (t.row).status, m.final, m.priced, m.band, pg_backend_pid() % 4,
            sum(m.rows), sum(m.sent), sum(m.unpriced), sum(m.cost_pico), sum(m.saved_pico), sum(m.unsaved),
            sum((t.row).input_tokens), sum((t.row).output_tokens), sum((t.row).cached_input_tokens),
            sum((t.row).cache_write_tokens), sum((t.row).reasoning_tokens), sum(m.took), sum(m.requests), sum(m.calls),
            sum(m.calls_unpriced), sum(m.calls_pico), sum(m.calls_took), sum(m.fallbacks), sum(m.escalations),
            sum(m.escalated_unpriced), sum(m.escalated_pico), max(m.most_pico), max(m.most_took)
        FROM new t CROSS JOIN LATERAL ipyrouter.measure(t.row, one) m
        GROUP BY 5, 6, 7, 8, 9, 10, 11
        ORDER BY 5, 6, 7, 8, 9, 10, 11
        ON CONFLICT (day, member, team, tags, tier, provider, model, status, final, priced, band, slot) DO UPDATE SET
            rows = s.rows + excluded.rows, sent = s.sent + excluded.sent, unpriced = s.unpriced + excluded.unpriced,
            cost_pico = s.cost_pico + excluded.cost_pico, saved_pico = s.saved_pico + excluded.saved_pico,
            unsaved = s.unsaved + excluded.unsaved, input_tokens = s.input_tokens + excluded.input_tokens,
            output_tokens = s.output_tokens + excluded.output_tokens,
            cached_input_tokens = s.cached_input_tokens + excluded.cached_input_tokens,
            cache_write_tokens = s.cache_write_tokens + excluded.cache_write_tokens,
            reasoning_tokens = s.reasoning_tokens + excluded.reasoning_tokens, took = s.took + excluded.took,
            requests = s.requests + excluded.requests, calls = s.calls + excluded.calls,
            calls_unpriced = s.calls_unpriced + excluded.calls_unpriced, calls_pico = s.calls_pico + excluded.calls_pico,
            calls_took = s.calls_took + excluded.calls_took, fallbacks = s.fallbacks + excluded.fallbacks,
            escalations = s.escalations + excluded.escalations,
            escalated_unpriced = s.escalated_unpriced + excluded.escalated_unpriced,
            escalated_pico = s.escalated_pico + excluded.escalated_pico,
            most_pico = GREATEST(s.most_pico, excluded.most_pico), most_took = GREATEST(s.most_took, excluded.most_took)
    )
    SELECT COALESCE(sum(cost_pico), 0), COALESCE(sum(cost_pico) FILTER (WHERE status != 'cached'), 0) INTO cost, paid
    FROM new;
    IF one.spent_pico IS DISTINCT FROM LEAST(paid, 9000000000000000000) THEN
        RAISE EXCEPTION 'the request costs something else than its attempts' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF mode != 'restore' AND cost > 0 THEN
        INSERT INTO ipyrouter.counter AS c
        SELECT of.scope, of.name, of.day, pg_backend_pid() % 16, cost FROM (VALUES
            ('run', who.name || '/' || (body ->> 'budget')::ipyrouter.name, 0), -- NULL without a run's budget
            ('session', who.name || '/' || one.session, 0),
            ('member', who.name, moment / 86400000000),
            ('team', who.team, moment / 86400000000)) AS of (scope, name, day)
        WHERE of.name IS NOT NULL
        ON CONFLICT (scope, name, day, slot) DO UPDATE SET value = c.value + excluded.value;
    END IF;
    RETURN true;
END $$;

CREATE FUNCTION ipyrouter.set_feedback(answer text, opinion text) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '8s' SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    UPDATE ipyrouter.answers SET feedback = opinion WHERE id = answer AND member = session_user;
    RETURN FOUND;
END $$;

-- Delete the texts of the caller's answers, what they cost stays; what the cache holds of the caller's goes too.
CREATE FUNCTION ipyrouter.forget_texts(answer text, before bigint) RETURNS int LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '8s' SET plan_cache_mode = force_generic_plan AS $$
DECLARE number int;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(session_user, 3));
    SELECT count(*) INTO number FROM ipyrouter.answers
    WHERE member = session_user AND (answer IS NULL OR id = answer) AND (before IS NULL OR time < before);
    DELETE FROM ipyrouter.cache c WHERE c.member = session_user AND (
        (answer IS NULL AND (before IS NULL OR c.created < before))
        OR (answer IS NOT NULL AND (
            c.created IN (SELECT time FROM ipyrouter.answers WHERE id = answer AND member = session_user)
            OR c.text IN (SELECT text FROM ipyrouter.texts WHERE answer_id = answer AND member = session_user))));
    PERFORM ipyrouter.recount_cache(session_user);
    DELETE FROM ipyrouter.texts
    WHERE member = session_user AND (answer IS NULL OR answer_id = answer) AND (before IS NULL OR time < before);
    DELETE FROM ipyrouter.attempt_texts
    WHERE member = session_user AND (answer IS NULL OR answer_id = answer) AND (before IS NULL OR time < before);
    IF answer IS NULL THEN -- runs hold prompts, too
        DELETE FROM ipyrouter.runs WHERE member = session_user AND (before IS NULL OR updated < before);
        DELETE FROM ipyrouter.run_rows r
        WHERE r.member = session_user AND NOT EXISTS (
            SELECT FROM ipyrouter.runs WHERE member = r.member AND id = r.run);
    END IF;
    RETURN number;
END $$;

-- --- the cache ---

CREATE FUNCTION ipyrouter.put(who ipyrouter.caller, entry jsonb, moment bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    one ipyrouter.cache := jsonb_populate_record(NULL::ipyrouter.cache, entry - 'key');
    age bigint := (entry ->> 'max_age')::bigint;
    most bigint := (entry ->> 'max_bytes')::bigint;
    held numeric;
BEGIN
    one.scope := who.scope;
    one.key := decode(entry ->> 'key', 'hex');
    one.member := who.name;
    one.created := moment;
    one.used := moment;
    one.size := octet_length(one.text) + 300; -- the other columns and the indexes, about
    IF age IS NOT NULL THEN
        DELETE FROM ipyrouter.cache c
        WHERE (member = who.name AND created < moment - age OR member = who.name AND created > moment + age)
            AND NOT EXISTS (SELECT FROM ipyrouter.run_rows r WHERE r.scope = c.scope AND r.key = c.key);
    END IF;
    INSERT INTO ipyrouter.cache SELECT one.* ON CONFLICT (scope, key) DO UPDATE SET
        member = excluded.member, created = excluded.created, used = excluded.used, size = excluded.size,
        provider = excluded.provider, model = excluded.model, tier = excluded.tier, text = excluded.text,
        usage = excluded.usage, finish = excluded.finish, cost_pico = excluded.cost_pico,
        escalated_from = excluded.escalated_from;
    WITH counted AS (
        INSERT INTO ipyrouter.counter AS c VALUES ('cache', who.name, 0, pg_backend_pid() % 16, one.size)
        ON CONFLICT (scope, name, day, slot) DO UPDATE SET value = c.value + excluded.value)
    SELECT COALESCE(sum(value), 0) + one.size INTO held -- as it was before, and this
    FROM ipyrouter.counter WHERE scope = 'cache' AND name = who.name;
    -- Or seems so: what was deleted is counted only here. One does it for all.
    IF held > most AND pg_try_advisory_xact_lock(hashtextextended(who.name, 3)) THEN
        DELETE FROM ipyrouter.cache USING (
            SELECT key AS old, kept, sum(size) OVER (ORDER BY kept DESC, used DESC, key) AS until_here
            FROM (
                SELECT key, size, used, EXISTS (
                    SELECT FROM ipyrouter.run_rows r WHERE r.scope = c.scope AND r.key = c.key) AS kept
                FROM ipyrouter.cache c WHERE member = who.name AND scope = one.scope
            ) theirs
        ) ranked WHERE scope = one.scope AND member = who.name AND key = old AND NOT kept AND until_here > most * 0.9;
        -- Where runs keep more than there is room for, the next look comes after a tenth more.
        PERFORM ipyrouter.recount_cache(who.name, most * 0.9);
    END IF;
END $$;

CREATE FUNCTION ipyrouter.recount_cache(of_member text, at_most numeric DEFAULT NULL) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM ipyrouter.counter WHERE scope = 'cache' AND name = of_member;
    INSERT INTO ipyrouter.counter AS c
    SELECT 'cache', of_member, 0, pg_backend_pid() % 16, LEAST(COALESCE(sum(size), 0), at_most)
    FROM ipyrouter.cache WHERE member = of_member
    ON CONFLICT (scope, name, day, slot) DO UPDATE SET value = c.value + excluded.value;
END $$;

-- Return the answers of the keys, in their order: those that are young enough, and those that a run of the caller's
-- keeps. The server puts the body into the statement that calls it.
CREATE FUNCTION ipyrouter.find_cached(mine text, keys bytea[], max_age bigint, moment bigint) RETURNS SETOF jsonb
LANGUAGE sql STABLE AS $$
    SELECT to_jsonb(c) - 'scope' - 'member' - 'key' || jsonb_build_object('key', encode(c.key, 'hex'))
    FROM ipyrouter.cache c
    WHERE c.scope = mine AND c.key = ANY (keys) AND (abs(moment - c.created) <= max_age OR EXISTS (
        SELECT FROM ipyrouter.run_rows r WHERE r.scope = mine AND r.key = c.key AND r.member = session_user))
    ORDER BY array_position(keys, c.key)
$$;

CREATE FUNCTION ipyrouter.cached_many(keys bytea[], max_age bigint) RETURNS SETOF jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    mine text := (SELECT scope FROM ipyrouter.caller);
BEGIN
    IF mine IS NULL THEN
        PERFORM ipyrouter.me(); -- says so
    END IF;
    RETURN QUERY SELECT * FROM ipyrouter.find_cached(mine, keys, max_age, ipyrouter.now_us());
END $$;

CREATE FUNCTION ipyrouter.cached(keys bytea[], max_age bigint) RETURNS jsonb LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$ SELECT * FROM ipyrouter.cached_many(keys, max_age) LIMIT 1 $$;

-- Return the answer, or who may ask for it: the caller, unless another has claimed that already.
CREATE FUNCTION ipyrouter.cached_or_claim(keys bytea[], wanted bytea, by_owner text, seconds double precision, max_age bigint)
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '8s' SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    moment bigint := ipyrouter.now_us();
    -- A claim that a crash loses costs at most a second answer.
    asynchronous text := set_config('synchronous_commit', 'off', true);
    who record;
    hit jsonb;
    holder text;
BEGIN
    SELECT c.name, c.scope, (SELECT stored FROM ipyrouter.find_cached(c.scope, keys, max_age, moment) stored LIMIT 1) AS hit,
        (SELECT owner FROM ipyrouter.claim WHERE scope = c.scope AND key = wanted AND expires >= moment) AS holder
    INTO who FROM ipyrouter.caller c;
    IF NOT FOUND THEN
        PERFORM ipyrouter.me(); -- says so
    END IF;
    IF who.hit IS NOT NULL THEN
        RETURN who.hit;
    END IF;
    IF who.holder IS NOT NULL AND who.holder != by_owner THEN -- a waiting request looks often: only reading
        RETURN jsonb_build_object('owner', who.holder);
    END IF;
    INSERT INTO ipyrouter.claim AS c
    VALUES (who.scope, wanted, who.name, by_owner, moment + (LEAST(GREATEST(seconds, 0), 7200) * 1000000)::bigint)
    ON CONFLICT (scope, key) DO UPDATE SET member = excluded.member, owner = excluded.owner, expires = excluded.expires
    WHERE c.expires < moment OR c.owner = excluded.owner
    RETURNING owner INTO holder;
    IF holder IS NULL THEN
        SELECT owner INTO holder FROM ipyrouter.claim WHERE scope = who.scope AND key = wanted;
        RETURN jsonb_build_object('owner', COALESCE(holder, ''));
    END IF;
    -- Once more, now that the claim is held: the answer may have come in between.
    SELECT * INTO hit FROM ipyrouter.find_cached(who.scope, keys, max_age, moment) LIMIT 1;
    IF hit IS NOT NULL THEN
        DELETE FROM ipyrouter.claim WHERE scope = who.scope AND key = wanted AND owner = by_owner;
    END IF;
    RETURN COALESCE(hit, jsonb_build_object('owner', holder));
END $$;

CREATE FUNCTION ipyrouter.release(by_owner text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '8s' SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    DELETE FROM ipyrouter.claim WHERE owner = by_owner AND member = session_user;
    DELETE FROM ipyrouter.reservation WHERE owner = by_owner AND member = session_user;
END $$;

CREATE FUNCTION ipyrouter.clear_cache() RETURNS int LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '8s' SET plan_cache_mode = force_generic_plan AS $$
DECLARE number int;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(session_user, 3));
    DELETE FROM ipyrouter.cache WHERE member = session_user;
    GET DIAGNOSTICS number = ROW_COUNT;
    PERFORM ipyrouter.recount_cache(session_user);
    RETURN number;
END $$;

-- --- runs over columns ---

-- Write a run, or replace the caller's of this id. Where the team logs no content, its prompt is left out.
CREATE FUNCTION ipyrouter.put_run(run_id text, begun bigint, went_on bigint, run_state jsonb) RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '8s' SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    who ipyrouter.member := ipyrouter.me();
BEGIN
    IF NOT (SELECT content FROM ipyrouter.team WHERE name = who.team) THEN
        run_state := jsonb_set(run_state, '{prompt}', 'null', false);
    END IF;
    INSERT INTO ipyrouter.runs (member, id, created, updated, state) VALUES (who.name, run_id, begun, went_on, run_state)
    ON CONFLICT (member, id) DO UPDATE SET updated = excluded.updated, state = excluded.state;
END $$;

-- Keep the answers of these keys, in the cache that the caller reads.
CREATE FUNCTION ipyrouter.pin(run_id text, keys bytea[]) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '8s' SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    who ipyrouter.caller;
BEGIN
    SELECT * INTO who FROM ipyrouter.caller;
    IF NOT FOUND THEN
        PERFORM ipyrouter.me(); -- says so
    END IF;
    INSERT INTO ipyrouter.run_rows (scope, key, member, run)
    SELECT DISTINCT who.scope, one, who.name, run_id FROM unnest(keys) one
    ORDER BY one -- so that no two wait for each other
    ON CONFLICT DO NOTHING;
END $$;

CREATE FUNCTION ipyrouter.drop_run(run_id text) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '8s' SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    DELETE FROM ipyrouter.run_rows WHERE member = session_user AND run = run_id;
    DELETE FROM ipyrouter.runs WHERE member = session_user AND id = run_id;
    RETURN FOUND;
END $$;

-- --- budgets ---

-- The budgets that hold for a member, what the member's own config says (of that, place is the place in own) and what
-- the team's owner has set, with what is spent and promised of them: of one moment, so in one statement, into which the
-- server puts this body.
CREATE FUNCTION ipyrouter.standing(of_member text, of_team text, in_session text, in_run text, own jsonb, moment bigint)
RETURNS TABLE (place int, scope text, period text, pico numeric, spent numeric, promised numeric)
LANGUAGE sql STABLE AS $$
    SELECT l.place, l.scope, l.period, l.pico,
        (SELECT COALESCE(sum(s.value), 0) FROM ipyrouter.counter s
         WHERE s.scope = CASE WHEN l.period IN ('session', 'run') THEN l.period ELSE l.scope END
            AND s.name = CASE WHEN l.scope = 'team' THEN of_team
                WHEN l.period = 'session' THEN of_member || '/' || in_session
                WHEN l.period = 'run' THEN of_member || '/' || in_run ELSE of_member END
            AND s.day BETWEEN CASE l.period
                WHEN 'month' THEN extract(epoch FROM date_trunc('month', to_timestamp(moment / 1000000), 'UTC'))::bigint / 86400
                WHEN 'day' THEN moment / 86400000000 ELSE 0 END AND moment / 86400000000
            AND l.period != 'call'),
        (SELECT COALESCE(sum(r.pico), 0) FROM ipyrouter.reservation r
         WHERE r.team = of_team AND (l.scope = 'team' OR r.member = of_member)
            AND (l.period != 'session' OR r.session = in_session) AND (l.period != 'run' OR r.run = in_run)
            AND r.expires >= moment AND l.period != 'call')
    FROM (
        SELECT given.place::int, 'member', one ->> 'period', (one ->> 'pico')::numeric
        FROM jsonb_array_elements(own) WITH ORDINALITY AS given (one, place)
        UNION ALL
        SELECT NULL, CASE b.member WHEN '' THEN 'team' ELSE 'member' END, b.period, b.pico
        FROM ipyrouter.budget b WHERE b.team = of_team AND b.member IN ('', '*', of_member)
    ) AS l (place, scope, period, pico)
$$;

-- The rates that hold for the caller, with what the last minute has used and when the oldest of its calls is over it.
CREATE FUNCTION ipyrouter.pace(who ipyrouter.member)
RETURNS TABLE (scope text, unit text, most bigint, used numeric, seconds double precision)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    since bigint := ipyrouter.now_us() - 60000000;
BEGIN
    RETURN QUERY
    SELECT CASE r.member WHEN '' THEN 'team' ELSE 'member' END, r.unit, r.most,
        CASE r.unit WHEN 'requests' THEN m.calls ELSE m.tokens END, GREATEST(m.oldest - since, 0) / 1e6::float8
    FROM ipyrouter.rate r CROSS JOIN LATERAL (
        SELECT count(*)::numeric AS calls, COALESCE(sum(c.tokens), 0) AS tokens, COALESCE(min(c.moment), since) AS oldest
        FROM ipyrouter.minute c
        WHERE c.team = r.team AND c.moment > since AND (r.member = '' OR c.member = who.name)) m
    WHERE r.team = who.team AND r.member IN ('', '*', who.name);
END $$;

CREATE FUNCTION ipyrouter.rates() RETURNS SETOF jsonb LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY SELECT to_jsonb(p) FROM ipyrouter.pace(ipyrouter.me()) p ORDER BY p.scope, p.unit;
END $$;

-- --- outages ---

-- Tell the caller's team that a service fails; 0 seconds: that it answers again.
CREATE FUNCTION ipyrouter.report_outage(of_model text, with_status int, seconds double precision) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '8s' AS $$
DECLARE
    who ipyrouter.member := ipyrouter.me();
    moment bigint := ipyrouter.now_us();
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    DELETE FROM ipyrouter.outage o WHERE o.team = who.team AND (o.until < moment OR (o.model = of_model AND seconds <= 0));
    IF seconds > 0 THEN
        INSERT INTO ipyrouter.outage AS o
        VALUES (who.team, of_model, who.name, with_status, moment + (LEAST(seconds, 60) * 1000000)::bigint)
        ON CONFLICT (team, model) DO UPDATE SET
            member = excluded.member, status = excluded.status, until = GREATEST(o.until, excluded.until);
    END IF;
END $$;

CREATE FUNCTION ipyrouter.outages() RETURNS SETOF jsonb LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    who ipyrouter.member := ipyrouter.me();
    moment bigint := ipyrouter.now_us();
BEGIN
    RETURN QUERY
    SELECT jsonb_build_object('model', o.model, 'status', o.status, 'seconds', (o.until - moment) / 1e6::float8)
    FROM ipyrouter.outage o WHERE o.team = who.team AND o.until > moment;
END $$;

-- --- promises ---

-- Promise money to a call, or return the budget that has not enough left: of several one that waiting does not help; or
-- the rate that the call would exceed. tokens is the most that it may take, NULL where it is no call of this minute.
CREATE FUNCTION ipyrouter.reserve(
    reservation_id text, by_owner text, in_session text, amount numeric, seconds double precision, own jsonb,
    may_take bigint DEFAULT NULL, in_run text DEFAULT '')
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '8s' SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    -- Whoever waits for the lock below need not wait for the disk, too. A server that crashes may forget the promises of
    -- its last second: only calls that are in flight just then can exceed a budget. What is spent waits for the disk.
    asynchronous text := set_config('synchronous_commit', 'off', true);
    who record;
    moment bigint; -- once the lock is held
    minute_ago bigint;
    now record;
    refusal jsonb;
BEGIN
    IF current_setting('transaction_isolation') != 'read committed' THEN -- it would not see what others have just promised
        RAISE EXCEPTION 'budgets need transactions of the level "read committed"' USING ERRCODE = 'invalid_transaction_state';
    END IF;
    SELECT m.name, m.team,
        EXISTS (SELECT FROM ipyrouter.budget b WHERE b.team = m.team AND b.member = '')
            OR EXISTS (SELECT FROM ipyrouter.rate r WHERE r.team = m.team AND r.member = '') AS together,
        may_take IS NOT NULL AND EXISTS (
            SELECT FROM ipyrouter.rate r WHERE r.team = m.team AND r.member IN ('', '*', m.name)) AS paced
    INTO who FROM ipyrouter.member m WHERE m.name = session_user;
    IF NOT FOUND THEN
        PERFORM ipyrouter.me(); -- says so
    END IF;
    -- One at a time decides about the money of a team, or of a member where the team as such has no budget. A row, and no
    -- advisory lock, which every login of the server could take.
    IF who.together THEN
        PERFORM FROM ipyrouter.team WHERE name = who.team FOR NO KEY UPDATE;
    ELSE
        PERFORM FROM ipyrouter.member WHERE name = who.name FOR NO KEY UPDATE;
    END IF;
    moment := ipyrouter.now_us();
    minute_ago := moment - 60000000;
    SELECT EXISTS (SELECT FROM ipyrouter.reservation WHERE id = reservation_id AND member = who.name) AS promised,
        EXISTS (SELECT FROM ipyrouter.reservation r
            WHERE r.team = who.team AND r.member = who.name AND r.expires < moment) AS outlived,
        (SELECT to_jsonb(s) FROM ipyrouter.standing(who.name, who.team, in_session, in_run, own, moment) s
         WHERE s.spent + s.promised + amount > s.pico
         ORDER BY s.spent + amount > s.pico DESC, s.place NULLS LAST LIMIT 1) AS refusal
    INTO now;
    IF now.promised THEN
        RETURN NULL; -- sent again, because the answer was lost
    END IF;
    IF now.outlived THEN
        DELETE FROM ipyrouter.reservation WHERE team = who.team AND member = who.name AND expires < moment;
    END IF;
    refusal := now.refusal;
    IF refusal IS NULL AND who.paced THEN
        DELETE FROM ipyrouter.minute m
        WHERE m.team = who.team AND m.member = who.name AND m.moment < minute_ago;
        SELECT to_jsonb(p) INTO refusal FROM ipyrouter.pace(ipyrouter.me()) p
        WHERE p.used + LEAST(CASE p.unit WHEN 'requests' THEN 1 ELSE may_take END, p.most) > p.most
        ORDER BY p.seconds DESC LIMIT 1;
        IF refusal IS NULL THEN
            INSERT INTO ipyrouter.minute VALUES (
                reservation_id, who.team, who.name, moment, LEAST(GREATEST(may_take, 0), 9007199254740992));
        END IF;
    END IF;
    IF refusal IS NULL THEN
        INSERT INTO ipyrouter.reservation VALUES (
            reservation_id, who.team, who.name, in_session, by_owner, amount,
            moment + (LEAST(GREATEST(seconds, 0), 31 * 86400) * 1000000)::bigint, -- a provider's batch may take long
            in_run);
    END IF;
    RETURN refusal;
END $$;

CREATE FUNCTION ipyrouter.settle(reservation_id text, amount numeric, took bigint DEFAULT NULL) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '8s' SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    asynchronous text := set_config('synchronous_commit', 'off', true); -- what a crash loses here is held for longer
BEGIN
    UPDATE ipyrouter.reservation SET pico = amount WHERE id = reservation_id AND member = session_user;
    IF took IS NOT NULL THEN
        UPDATE ipyrouter.minute SET tokens = LEAST(GREATEST(took, 0), 9007199254740992)
        WHERE id = reservation_id AND member = session_user;
    END IF;
END $$;

CREATE FUNCTION ipyrouter.used(in_session text, own jsonb, in_run text DEFAULT '') RETURNS SETOF jsonb LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    who ipyrouter.member := ipyrouter.me();
    moment bigint := ipyrouter.now_us();
BEGIN
    RETURN QUERY
    SELECT to_jsonb(s) FROM ipyrouter.standing(who.name, who.team, in_session, in_run, own, moment) s ORDER BY s.place;
END $$;

-- --- rights ---

ALTER TABLE ipyrouter.answers ENABLE ROW LEVEL SECURITY;
ALTER TABLE ipyrouter.attempts ENABLE ROW LEVEL SECURITY;
ALTER TABLE ipyrouter.texts ENABLE ROW LEVEL SECURITY;
ALTER TABLE ipyrouter.attempt_texts ENABLE ROW LEVEL SECURITY;
ALTER TABLE ipyrouter.sums ENABLE ROW LEVEL SECURITY;
ALTER TABLE ipyrouter.runs ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_or_led ON ipyrouter.answers FOR SELECT
    USING (member = session_user OR team = ANY ((SELECT ipyrouter.led())::text[]));
CREATE POLICY own_or_led ON ipyrouter.attempts FOR SELECT
    USING (member = session_user OR team = ANY ((SELECT ipyrouter.led())::text[]));
CREATE POLICY own_or_led ON ipyrouter.sums FOR SELECT
    USING (member = session_user OR team = ANY ((SELECT ipyrouter.led())::text[]));
CREATE POLICY own ON ipyrouter.texts FOR SELECT USING (member = session_user);
CREATE POLICY own ON ipyrouter.attempt_texts FOR SELECT USING (member = session_user);
CREATE POLICY own ON ipyrouter.runs FOR SELECT USING (member = session_user);

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA ipyrouter FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA ipyrouter FROM PUBLIC;
GRANT USAGE ON SCHEMA ipyrouter TO ipyrouter_member;
GRANT SELECT ON ipyrouter.answers, ipyrouter.attempts, ipyrouter.texts, ipyrouter.attempt_texts, ipyrouter.sums,
    ipyrouter.measured, ipyrouter.runs, ipyrouter.schema_version TO ipyrouter_member;
GRANT EXECUTE ON FUNCTION
    ipyrouter.hello(), ipyrouter.led(), ipyrouter.now_us(), ipyrouter.measure(ipyrouter.attempts, ipyrouter.answers),
    ipyrouter.record(jsonb, text),
    ipyrouter.set_feedback(text, text), ipyrouter.forget_texts(text, bigint), ipyrouter.cached(bytea[], bigint),
    ipyrouter.cached_or_claim(bytea[], bytea, text, double precision, bigint), ipyrouter.release(text),
    ipyrouter.clear_cache(), ipyrouter.reserve(text, text, text, numeric, double precision, jsonb, bigint, text),
    ipyrouter.settle(text, numeric, bigint), ipyrouter.rates(), ipyrouter.outages(),
    ipyrouter.report_outage(text, int, double precision), ipyrouter.used(text, jsonb, text), ipyrouter.cached_many(bytea[], bigint),
    ipyrouter.put_run(text, bigint, bigint, jsonb), ipyrouter.pin(text, bytea[]), ipyrouter.drop_run(text)
TO ipyrouter_member;

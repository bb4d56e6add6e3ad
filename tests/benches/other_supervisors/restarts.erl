%% The same in Erlang/OTP: gen_server workers under OTP's supervisor. The queue is lost with a process, so the replacement sends itself the
%% message it is to handle in its init. Prints bare nanoseconds, as `alone` in other_supervisors.rs does.
%%
%% Arguments: restarts before those that count, the limit of a storm in milliseconds, what to measure, how many.
-module(restarts).
-behaviour(gen_server).
-export([main/1, start_link/2, init/1, handle_call/3, handle_cast/2, handle_info/2]).

%% Places in the shared atomics: when a worker panicked last, and how many first messages of replacements are still to come.
-define(PANICKED_AT, 1).
-define(AWAITED, 2).

main([WarmUp, Limit, Measure, Count]) ->
    logger:set_primary_config(level, none), % Printing a crash costs more than the crash.
    Probe = atomics:new(2, []),
    Printed = case Measure of
        "--restarts" -> restarts(fun one_by_one/3, Probe, list_to_integer(WarmUp), list_to_integer(Count));
        "--chain" -> restarts(fun chain/3, Probe, list_to_integer(WarmUp), list_to_integer(Count));
        "--storm" -> storm(Probe, list_to_integer(Limit), list_to_integer(Count))
    end,
    io:put_chars(lists:join(" ", [integer_to_list(Number) || Number <- Printed])),
    halt(0).

now_ns() -> erlang:monotonic_time(nanosecond).

restarts(How, Probe, WarmUp, Count) ->
    atomics:put(Probe, ?AWAITED, 1),
    Fragile = {fragile, {?MODULE, start_link, [[{local, fragile}], {Probe, self()}]}, permanent, brutal_kill, worker, [?MODULE]},
    {ok, _} = supervisor:start_link(?MODULE, {one_for_one, [Fragile]}),
    receive {done, _} -> ok end,
    How(Probe, WarmUp, Count).

one_by_one(Probe, WarmUp, Count) ->
    Taken = [begin
        atomics:put(Probe, ?AWAITED, 1),
        gen_server:cast(fragile, panic),
        receive {done, HandledAt} -> HandledAt - atomics:get(Probe, ?PANICKED_AT) end
    end || _ <- lists:seq(1, WarmUp + Count)],
    lists:nthtail(WarmUp, Taken).

chain(Probe, WarmUp, Count) ->
    atomics:put(Probe, ?AWAITED, WarmUp + Count),
    Chain = ets:new(chain, [ordered_set, named_table, public]),
    gen_server:cast(fragile, panic),
    receive {done, _} -> ok end,
    lists:nthtail(WarmUp, [Taken || {_, Taken} <- ets:tab2list(Chain)]).

storm(Probe, Limit, Count) ->
    atomics:put(Probe, ?AWAITED, Count),
    Fragile = {fragile, {?MODULE, start_link, [[], {Probe, self()}]}, permanent, brutal_kill, worker, [?MODULE]},
    {ok, Supervisor} = supervisor:start_link(?MODULE, {simple_one_for_one, [Fragile]}),
    Workers = [begin {ok, Worker} = supervisor:start_child(Supervisor, []), Worker end || _ <- lists:seq(1, Count)],
    receive {done, _} -> ok end,
    {ok, Neighbour} = start_link([], neighbour),
    Asker = spawn_link(fun() -> ask(Neighbour, now_ns(), []) end),
    timer:sleep(50), % It is under way.
    atomics:put(Probe, ?AWAITED, Count),
    Begun = now_ns(),
    [gen_server:cast(Worker, panic) || Worker <- Workers],
    Ended = receive {done, HandledAt} -> HandledAt after Limit -> now_ns() end,
    Answered = Count - atomics:get(Probe, ?AWAITED),
    Asker ! {stop, self()},
    Asks = receive {asks, All} -> All end,
    [Ended - Begun, Answered | [To - From || {From, To} <- Asks, To > Begun, From < Ended]].

%% Asks the neighbour every millisecond until told to stop. An answer that takes longer delays the next questions, which then count from when
%% they were due, and are asked after the stop, too.
ask(Neighbour, Due, Asks) ->
    case Due - now_ns() of
        Wait when Wait > 0 ->
            receive
                {stop, From} -> From ! {asks, Asks}
            after Wait div 1000000 -> ask(Neighbour, Due, now_ns(), Asks)
            end;
        _ -> ask(Neighbour, Due, Due, Asks)
    end.

ask(Neighbour, Due, Begun, Asks) ->
    pong = gen_server:call(Neighbour, ping, infinity),
    ask(Neighbour, Due + 1000000, [{Begun, now_ns()} | Asks]).

start_link([], State) -> gen_server:start_link(?MODULE, {worker, State}, []);
start_link([Name], State) -> gen_server:start_link(Name, ?MODULE, {worker, State}, []).

%% Restart limits as good as none: OTP's shortest period is a second.
init({worker, neighbour}) -> {ok, neighbour};
init({worker, State}) ->
    self() ! next,
    {ok, State};
init({Strategy, Children}) -> {ok, {{Strategy, 1000000000, 1}, Children}}.

handle_call(ping, _, State) -> {reply, pong, State}.

handle_cast(panic, {Probe, _}) ->
    atomics:put(Probe, ?PANICKED_AT, now_ns()),
    %% Not an error: it would carry its stack along, and a hundred thousand of those in the supervisor's queue take it several times as long.
    exit(as_told).

handle_info(next, {Probe, Measurer} = State) ->
    Now = now_ns(),
    Left = atomics:sub_get(Probe, ?AWAITED, 1),
    Chained = ets:whereis(chain) =/= undefined andalso ets:insert(chain, {-Left, Now - atomics:get(Probe, ?PANICKED_AT)}),
    if
        Left =:= 0 -> Measurer ! {done, Now};
        Chained -> gen_server:cast(self(), panic);
        true -> ok
    end,
    {noreply, State}.

%% Plays scripts on the supervisors of OTP, and writes what they start and stop, in order.
%%
%% A script is {Number, Children, Steps}. A child is {worker, Id, Kind, Significant} or
%% {group, Id, Kind, Significant, Strategy, Intensity, AutoShutdown, Children}; a step is {crash, Id}, {normal, Id}, {stop, Group, Id} or
%% {start, Group, Id}. All are children of one more supervisor that never gives up. A line of the answer is the number and, for each
%% step, what followed it: +Id for a start, -Id for being told to stop.
-module(otp).
-behaviour(supervisor).
-export([main/1, init/1, group/1, worker/2, worker_init/2]).

-define(PERIOD, 3600).

main([In, Out]) ->
    logger:set_primary_config(level, none),
    process_flag(trap_exit, true),
    {ok, Scripts} = file:consult(In),
    Lines = [io_lib:format("~w ~s~n", [Number, play(Children, Steps)]) || {Number, Children, Steps} <- Scripts],
    ok = file:write_file(Out, Lines),
    halt(0).

play(Children, Steps) ->
    {ok, Top} = supervisor:start_link({local, name(0)}, ?MODULE, {one_for_one, 1000, never, Children, self()}),
    First = told(Top),
    Rest = [begin step(Step), told(Top) end || Step <- Steps],
    unlink(Top),
    Monitor = monitor(process, Top),
    exit(Top, shutdown),
    receive {'DOWN', Monitor, _, _, _} -> ok end,
    Last = flush(),
    lists:join("|", [First | Rest] ++ [Last]).

name(Id) -> list_to_atom("c" ++ integer_to_list(Id)).

init({Strategy, Intensity, AutoShutdown, Children, Teller}) ->
    Flags = #{strategy => Strategy, intensity => Intensity, period => ?PERIOD, auto_shutdown => AutoShutdown},
    {ok, {Flags, [spec(Child, Teller) || Child <- Children]}}.

spec({worker, Id, Kind, Significant}, Teller) ->
    #{id => Id, start => {?MODULE, worker, [Id, Teller]}, restart => Kind, significant => Significant};
spec({group, Id, Kind, Significant, Strategy, Intensity, AutoShutdown, Children}, Teller) ->
    Group = {Id, {Strategy, Intensity, AutoShutdown, Children, Teller}},
    #{id => Id, start => {?MODULE, group, [Group]}, restart => Kind, significant => Significant,
      type => supervisor, shutdown => infinity}.

group({Id, Arguments}) -> supervisor:start_link({local, name(Id)}, ?MODULE, Arguments).

worker(Id, Teller) -> proc_lib:start_link(?MODULE, worker_init, [Id, Teller]).

worker_init(Id, Teller) ->
    process_flag(trap_exit, true),
    register(name(Id), self()),
    Teller ! {told, ["+", integer_to_list(Id)]},
    proc_lib:init_ack({ok, self()}),
    receive
        crash -> exit(crash);
        normal -> exit(normal);
        {'EXIT', _, Reason} -> Teller ! {told, ["-", integer_to_list(Id)]}, exit(Reason)
    end.

step({stop, Group, Id}) -> catch supervisor:terminate_child(name(Group), Id);
step({start, Group, Id}) -> catch supervisor:restart_child(name(Group), Id);
step({How, Id}) ->
    case whereis(name(Id)) of
        undefined -> ok;
        Pid ->
            Monitor = monitor(process, Pid),
            Pid ! How,
            receive {'DOWN', Monitor, _, _, _} -> ok end
    end.

%% What was told once all supervisors have nothing more to do: each answers when it has done what came before.
told(Top) ->
    timer:sleep(1),
    settle(Top),
    timer:sleep(1),
    settle(Top),
    flush().

settle(Supervisor) ->
    Children = try supervisor:which_children(Supervisor) catch _:_ -> [] end,
    [settle(Pid) || {_, Pid, supervisor, _} <- Children, is_pid(Pid)].

flush() ->
    receive
        {told, Line} -> [Line, " " | flush()];
        {'EXIT', _, _} -> flush()
    after 0 -> []
    end.

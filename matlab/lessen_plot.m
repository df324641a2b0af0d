function [s, files] = lessen_plot(source, varargin)
%LESSEN_PLOT Plot a run of lessen: what compressing a model cost, and what it brought.
%   S = LESSEN_PLOT() asks the server at http://127.0.0.1:5001 for its latest run and draws six figures: before and
%   after, Pareto, loss, confusion, layers, latency. S is what the server answered: see README.md beside this file.
%   S = LESSEN_PLOT(SOURCE) takes another server's address, or a .json or .mat file that /matlab_metrics answered.
%   [S, FILES] = LESSEN_PLOT(SOURCE, NAME, VALUE, ...) also returns the PNG files written. Names:
%     'run_id'   the run, the latest by default
%     'out'      folder for PNG files; without it figures stay on the screen, or, where there is none, go to this folder
%     'figures'  some of {'before_after', 'pareto', 'loss', 'confusion', 'layers', 'latency'}; {} for none
%     'token'    of the server; by default LESSEN_TOKEN, else the file LESSEN_TOKEN_FILE or ~/.config/lessen/token
%     'start'    arguments of `lessen run`, which is then run to its end first
%   E = LESSEN_PLOT('events', URL, 'run_id', ID) follows a run: prints its events as they come and returns them.
%
%   Needs MATLAB R2016b or later and no toolbox, or GNU Octave 7 or later (without a screen: with gnuplot).

if nargin < 1
    source = '';
end
if strcmp(source, 'events')
    [address, rest] = first_of(varargin);
    s = follow(address, options(rest));
    files = {};
    return
end
if any(strcmp(source, option_names())) && mod(nargin, 2) == 0
    varargin = [{source}, varargin];
    source = '';
end
chosen = options(varargin);
if ~isempty(chosen.start)
    start_run(chosen.start);
end
s = read_source(source, chosen);
files = {};
if ~s.success
    fprintf('lessen_plot: nothing to plot: %s\n', s.error);
    return
end
files = draw(s, chosen);
end

% ---------------------------------------------------------------------------------------------- arguments and sources

function names = option_names()
names = {'run_id', 'out', 'figures', 'token', 'start', 'after', 'wait'};
end

function names = figure_names()
names = {'before_after', 'pareto', 'loss', 'confusion', 'layers', 'latency'};
end

function chosen = options(given)
chosen = struct('run_id', '', 'out', '', 'figures', {figure_names()}, 'token', '', 'start', '', 'after', 0, 'wait', 25);
if mod(numel(given), 2) ~= 0
    error('lessen:options', 'lessen_plot: options come in pairs, a name and its value');
end
for i = 1:2:numel(given)
    if ~ischar(given{i}) || ~any(strcmp(given{i}, option_names()))
        error('lessen:options', 'lessen_plot: no such option; there are: %s', strjoin(option_names(), ', '));
    end
    chosen.(given{i}) = given{i + 1};
end
if ischar(chosen.figures)
    chosen.figures = {chosen.figures};
end
wrong = setdiff(chosen.figures, figure_names());
if ~isempty(wrong)
    error('lessen:options', 'lessen_plot: no figure %s; there are: %s', wrong{1}, strjoin(figure_names(), ', '));
end
end

function [address, rest] = first_of(given)
address = '';
rest = given;
if mod(numel(given), 2) == 1
    address = given{1};
    rest = given(2:end);
end
end

function start_run(flags)
status = system(['lessen run ' flags]);
if status ~= 0
    error('lessen:start', 'lessen_plot: lessen run %s failed with exit code %d; nothing is plotted', flags, status);
end
end

function s = read_source(source, chosen)
if isempty(source) || is_url(source)
    s = from_server(base_of(source), chosen);
    return
end
if ~exist(source, 'file')
    error('lessen:source', 'lessen_plot: no file %s; give a server''s address, a .json or a .mat file', source);
end
[~, ~, ending] = fileparts(source);
if strcmpi(ending, '.mat')
    s = load(source);
else
    s = decode(fileread_utf8(source), source);
end
if ~isfield(s, 'matlab_data')
    error('lessen:source', ['lessen_plot: %s is not an answer of /matlab_metrics (a run''s report.json has another\n' ...
        '  shape); give the server''s address, or what it answers, saved as .json or, with ?format=mat, as .mat'], source);
end
s.success = logical(s.success);
end

function s = from_server(base, chosen)
token = token_for(base, chosen.token);
query = '';
if ~isempty(chosen.run_id)
    query = ['?run_id=' percent_encoded(chosen.run_id)];
end
s = decode(ask(base, ['/matlab_metrics' query], token), base);
end

function s = decode(text, source)
try
    s = jsondecode(text);
catch
    error('lessen:source', 'lessen_plot: %s does not hold JSON; it begins: %s', source, text(1:min(80, numel(text))));
end
end

function text = fileread_utf8(name)
file = fopen(name, 'r');
bytes = fread(file, Inf, 'uint8=>uint8')';
fclose(file);
if is_octave()
    text = char(bytes);  % Octave keeps text as UTF-8 bytes
else
    text = native2unicode(bytes, 'UTF-8');
end
end

function yes = is_url(text)
yes = strncmpi(text, 'http://', 7) || strncmpi(text, 'https://', 8);
end

function base = base_of(source)
if isempty(source)
    source = 'http://127.0.0.1:5001';
end
base = regexprep(source, '/(matlab_metrics.*)?$', '');
end

function text = ask(base, path, token)
% Octave 7 does not tell an HTTP status, so that what failed is found out by asking again.
try
    text = read_url([base path], token);
catch problem
    if ~reaches(base)
        error('lessen:server', 'lessen_plot: no lessen server answers at %s (%s); start one by: lessen serve', base, ...
            strtrim(problem.message));
    end
    if isempty(strfind(path, '?')) || ~answers(base, regexprep(path, '\?.*', ''), token)
        error('lessen:token', '%s', refused(base, token, problem));
    end
    error('lessen:run', 'lessen_plot: the server at %s has no run for %s (%s)', base, path, strtrim(problem.message));
end
end

function text = refused(base, token, problem)
known = ~isempty(regexp(problem.message, '4(29|[0-8]\d)|5\d\d', 'once')) && isempty(strfind(problem.message, '401'));
if known && ~is_octave()
    text = sprintf('lessen_plot: the server at %s refused: %s', base, problem.message);
elseif isempty(token)
    text = sprintf(['lessen_plot: unauthorized (401): the server at %s wants a token and none was found. Give it as\n' ...
        '  lessen_plot(''%s'', ''token'', ''...''), in LESSEN_TOKEN, or in a file that LESSEN_TOKEN_FILE names;\n' ...
        '  `lessen serve` says where its token lies.'], base, base);
else
    text = sprintf(['lessen_plot: unauthorized (401): the server at %s refused the token. It may have been changed:\n' ...
        '  see LESSEN_TOKEN, LESSEN_TOKEN_FILE and ~/.config/lessen/token.'], base);
end
end

function yes = reaches(base)
yes = answers(base, '/test', '');
end

function yes = answers(base, path, token)
try
    read_url([base path], token);
    yes = true;
catch
    yes = false;
end
end

function text = read_url(url, token)
given = {'ContentType', 'text', 'Timeout', 60};
if ~is_octave()
    given = [given, {'CharacterEncoding', 'UTF-8'}];  % what Octave has anyway
end
if ~isempty(token) && is_octave()  % 7.3 takes a header only so, MATLAB R2016b only the other way
    given = [given, {'HeaderFields', {'Authorization', ['Bearer ' token]}}];
elseif ~isempty(token)
    given = [given, {'KeyName', 'Authorization', 'KeyValue', ['Bearer ' token]}];
end
text = webread(url, weboptions(given{:}));
end

function token = token_for(base, given)
% A token from a file is this machine's: it is sent to this machine only.
token = given;
if isempty(token)
    token = strtrim(getenv('LESSEN_TOKEN'));
end
here = ~isempty(regexp(base, '^https?://(127\.0\.0\.1|localhost|\[::1\])(:\d+)?$', 'once'));
if ~isempty(token) || ~here
    return
end
file = getenv('LESSEN_TOKEN_FILE');
if isempty(file)
    config = getenv('XDG_CONFIG_HOME');
    if isempty(config)
        home = getenv('HOME');
        if isempty(home)
            home = getenv('USERPROFILE');
        end
        config = fullfile(home, '.config');
    end
    file = fullfile(config, 'lessen', 'token');
end
if exist(file, 'file')
    token = strtrim(fileread(file));
end
end

function text = percent_encoded(text)
plain = ['A':'Z', 'a':'z', '0':'9', '-_.~'];
parts = cell(1, numel(text));
for i = 1:numel(text)
    if any(text(i) == plain)
        parts{i} = text(i);
    elseif is_octave()
        parts{i} = sprintf('%%%02X', double(text(i)));
    else
        parts{i} = sprintf('%%%02X', unicode2native(text(i), 'UTF-8'));
    end
end
text = [parts{:}];
end

function yes = is_octave()
yes = exist('OCTAVE_VERSION', 'builtin') ~= 0;
end

% ------------------------------------------------------------------------------------------------------------- events

function s = follow(address, chosen)
base = base_of(address);
token = token_for(base, chosen.token);
after = chosen.after;
all = {};
while true
    path = sprintf('/events?after=%d&wait=%d', after, chosen.wait);
    if ~isempty(chosen.run_id)
        path = [path '&run_id=' percent_encoded(chosen.run_id)];
    end
    s = decode(ask(base, path, token), base);
    fresh = as_cells(s.events);
    for i = 1:numel(fresh)
        fprintf('%s\n', event_line(fresh{i}));
    end
    all = [all; fresh];
    after = s.next;
    if ~s.more && ~any(strcmp(s.state, {'queued', 'starting', 'running', 'cancelling'}))
        break
    end
end
s.events = all;
end

function text = event_line(event)
text = sprintf('%5d  %-15s', event.seq, event.kind);
if isfield(event, 'stage')
    text = [text '  ' event.stage];
end
if strcmp(event.kind, 'Progress')
    text = sprintf('%s  %d of %d %s', text, event.step, event.total_steps, event.unit);
    if ~isempty(event.loss)
        text = sprintf('%s  loss %.4g', text, event.loss);
    end
elseif isfield(event, 'message')
    text = [text '  ' event.message];
elseif isfield(event, 'state')
    text = [text '  ' event.state];
end
end

function list = as_cells(items)
if iscell(items)
    list = items(:);
elseif isstruct(items)
    list = num2cell(items(:));
else
    list = {};
end
end

% ------------------------------------------------------------------------------------------------------------ figures

function files = draw(s, chosen)
visible = has_screen();
if is_octave() && ~visible
    if ~any(strcmp(available_graphics_toolkits(), 'gnuplot'))
        error('lessen:gnuplot', 'lessen_plot: without a screen Octave draws by gnuplot, which is not installed');
    end
    warning('off', 'Octave:gnuplot-graphics', 'local');
    graphics_toolkit('gnuplot');
end
out = chosen.out;
if isempty(out) && ~visible
    out = pwd();
end
if ~isempty(out) && ~exist(out, 'dir')
    mkdir(out);
end
files = {};
for i = 1:numel(chosen.figures)
    name = chosen.figures{i};
    reason = missing_for(name, s);
    if ~isempty(reason)
        fprintf('lessen_plot: no figure %s: %s\n', name, reason);
        continue
    end
    shown = 'on';
    if ~isempty(out)
        shown = 'off';
    end
    fig = figure('Name', ['lessen: ' name], 'Visible', shown, 'Color', 'w');
    switch name
        case 'before_after'
            inches = draw_before_after(s);
        case 'pareto'
            inches = draw_pareto(s);
        case 'loss'
            inches = draw_loss(s);
        case 'confusion'
            inches = draw_confusion(s);
        case 'layers'
            inches = draw_layers(s);
        case 'latency'
            inches = draw_latency(s);
    end
    heading(s, inches);
    if isempty(out)
        continue
    end
    file = fullfile(out, [name '.png']);
    save_png(fig, file, inches);
    close(fig);
    files{end + 1} = file; %#ok<AGROW>
end
end

function axes_ = panel(inches, rows, columns, k, left, below)
% Like subplot, with margins in inches: names of layers and classes need room on the left.
if nargin < 6
    below = 0.65;
end
row = ceil(k / columns);
column_ = k - (row - 1) * columns;
cell_ = (inches - [0.1, 0.45]) ./ [columns, rows];
wide = cell_(1) - left - 0.35;
tall = cell_(2) - 0.45 - below;
x = (column_ - 1) * cell_(1) + left;
y = (rows - row) * cell_(2) + below;
axes_ = subplot('Position', [x / inches(1), y / inches(2), wide / inches(1), tall / inches(2)]);
end

function heading(s, inches)
axes('Position', [0 0 1 1], 'Visible', 'off', 'XLim', [0 1], 'YLim', [0 1]);
name = clipped({s.model_name}, 50, 'end');
text_ = sprintf('%s: %s, %s', s.run_id, name{1}, s.pipeline);
if ~s.complete
    text_ = [text_ ' (not complete yet)'];
end
text(0.5, 1 - 0.22 / inches(2), text_, 'HorizontalAlignment', 'center', 'FontSize', 11, 'Interpreter', 'none', ...
    'Color', [0.25 0.25 0.25]);
end

function save_png(fig, file, inches)
dots = 110;  % an inch
set(fig, 'PaperUnits', 'inches');
if is_octave() && strcmp(get(fig, '__graphics_toolkit__'), 'gnuplot')
    % it draws 72 dots an inch, text of 10 points in 13 of them; its -dpng would need Ghostscript, which is not there
    set(fig, 'PaperPosition', [0 0 inches * dots / 72]);
    warning('off', 'print:nogs', 'local');
    print(fig, file, '-dpngcairo');
else
    set(fig, 'PaperPosition', [0 0 inches]);
    print(fig, file, '-dpng', sprintf('-r%d', dots));
end
end

function yes = has_screen()
if ispc() || ismac()
    yes = true;
else
    yes = ~isempty(getenv('DISPLAY')) || ~isempty(getenv('WAYLAND_DISPLAY'));
end
end

function reason = missing_for(name, s)
reason = '';
switch name
    case 'loss'
        if isempty(s.history)
            reason = 'no training was recorded';
        end
    case 'confusion'
        if isempty(s.confusion.matrices)
            reason = s.confusion.reason;
        end
    case 'layers'
        if isempty(s.layers.name) && isempty(s.masks.name)
            reason = 'the report knows no layer of this run';
        end
    case 'latency'
        if isempty(s.latency.stage)
            reason = 'nothing was timed';
        end
    case 'pareto'
        if all(isnan(column(s.stages, s.score, numel(s.stages.stage))))
            reason = sprintf('no model has a %s', s.score_title);
        end
end
end

function inches = draw_before_after(s)
inches = [12.5 8];
titles = {'Effectiveness', 'Efficiency', compression_title(s), 'Complexity'};
blocks = {s.matlab_data.effectiveness, s.matlab_data.efficiency, s.matlab_data.compression, s.matlab_data.complexity};
blocks{3} = blocks{3}(1:2);  % the counts; what follows from them stands in the title
for k = 1:4
    panel(inches, 2, 2, k, 1.35);
    if all(strcmp({blocks{k}.unit}, 'percent'))
        draw_scores(blocks{k});
    else
        draw_remaining(blocks{k});
    end
    plain_title(titles{k});
end
end

function text = compression_title(s)
values = row_values(s.matlab_data.compression, 'after');
text = 'Compression';
if ~isnan(values(3))
    text = sprintf('%s: files %sx smaller', text, short(values(3)));
end
if ~isnan(values(4))
    text = sprintf('%s, accuracy %+.2f points', text, 0 - round(values(4) * 100) / 100);
end
end

function draw_scores(lines)
n = numel(lines);
before = row_values(lines, 'before');
after = row_values(lines, 'after');
hold on;
bars(1) = upright((1:n) - 0.18, before, teacher_color());
bars(2) = upright((1:n) + 0.18, after, final_color());
whiskers((1:n) - 0.18, row_values(lines, 'before_low'), row_values(lines, 'before_high'));
whiskers((1:n) + 0.18, row_values(lines, 'after_low'), row_values(lines, 'after_high'));
for i = 1:n
    in_bar(i - 0.18, before(i));
    in_bar(i + 0.18, after(i));
end
hold off;
set(gca, 'XTick', 1:n, 'XTickLabel', {lines.metric}, 'YTick', 0:20:100, 'YGrid', 'on', 'Box', 'off');
xlim([0.4, n + 0.6]);
ylim([0, 120]);
ylabel('percent (lines: 95 % interval)');
legend(bars, {'teacher', 'final model'}, 'Location', 'north', 'Orientation', 'horizontal');
end

function handle = upright(at, values, color)
[at, values] = with_one_beside(at, values);
handle = bar(at, values, 0.32, 'FaceColor', color);
end

function handle = lying(at, values, wide, color)
[at, values] = with_one_beside(at, values);
handle = barh(at, values, wide, 'FaceColor', color);
end

function [at, values] = with_one_beside(at, values)
% Widths are shares of the distance between bars, so that a bar alone gets a neighbour without length, out of sight; so
% does a missing value, since a gap would take the line out of Octave's legend.
at = [at(:); max(at) + 1];
values = [double(values(:)); 0];
values(isnan(values)) = 0;
end

function in_bar(x, value)
if isnan(value)
    label(x, 4, 'n/a', 'center', [0 0 0]);
elseif value < 12
    label(x, value + 8, sprintf('%.1f', value), 'center', [0 0 0]);
else
    label(x, 4, sprintf('%.1f', value), 'center', [1 1 1]);
end
end

function whiskers(at, low, high)
for i = 1:numel(at)
    if ~isnan(low(i)) && ~isnan(high(i))
        plot([at(i), at(i)], [low(i), high(i)], 'k-', 'LineWidth', 1.5);
    end
end
end

function draw_remaining(lines)
% Quantities of different units: what is left of the teacher's value, in percent, with the values themselves beside.
n = numel(lines);
before = row_values(lines, 'before');
after = row_values(lines, 'after');
share = after ./ before * 100;
share(isinf(share)) = NaN;
top = max([100; share(~isnan(share))]);
hold on;
bars(1) = lying((1:n) - 0.18, 100 * ~isnan(before), 0.32, teacher_color());
bars(2) = lying((1:n) + 0.18, share, 0.32, final_color());
for i = 1:n
    label(100 * ~isnan(before(i)) + 0.02 * top, i - 0.18, amount(before(i), lines(i).unit), 'left', [0 0 0]);
    text_ = amount(after(i), lines(i).unit);
    at = 0;
    if ~isnan(share(i))
        text_ = sprintf('%s  (%s %%)', text_, short(share(i)));
        at = share(i);
    end
    label(at + 0.02 * top, i + 0.18, text_, 'left', [0 0 0]);
end
hold off;
names = regexprep({lines.metric}, ' \((ms|MB)\)$', '');
set(gca, 'YTick', 1:n, 'YTickLabel', names, 'YDir', 'reverse', 'XGrid', 'on', 'Box', 'off');
xlim([0, top * 1.35]);
ylim([0.4, n + 1.15]);
xlabel('percent of the teacher''s');
legend(bars, {'teacher', 'final model'}, 'Location', 'southeast', 'Orientation', 'horizontal');
end

function inches = draw_pareto(s)
inches = [13 6];
score = column(s.stages, s.score, numel(s.stages.stage));
panels = {'file_bytes', 1e-6, 'size of the files in MB (log)'; 'latency_p50_ms', 1, 'latency p50 in ms (log)'};
same = strcmp(s.stages.device, s.stages.device{find(strcmp(s.stages.stage, s.teacher_stage), 1)});
for k = 1:2
    panel(inches, 1, 2, k, 0.9);
    cost = column(s.stages, panels{k, 1}, numel(score)) * panels{k, 2};
    if k == 2
        cost(~same) = NaN;  % times of another device are no comparison
    end
    draw_front(s, cost, score, k == 1);  % every stage has a size, not every one a time
    xlabel(panels{k, 3});
    ylabel(score_label(s));
    plain_title(sprintf('%s against %s', s.score_title, regexprep(panels{k, 3}, ' in .*', '')));
end
end

function text = score_label(s)
text = s.score_title;
if s.score_lower_is_better
    text = [text ' (lower is better)'];
end
end

function draw_front(s, cost, score, with_legend)
known = find(~isnan(cost) & ~isnan(score));
if isempty(known)
    axis('off');
    label(0.1, 0.5, 'not measured', 'left', [0 0 0]);
    return
end
best = front(cost(known), score(known), s.score_lower_is_better);
low = column(s.stages.ci_low, s.score, numel(score));
high = column(s.stages.ci_high, s.score, numel(score));
hold on;
joined = known(best);
[~, order] = sort(cost(joined));
handles{1} = plot(cost(joined(order)), score(joined(order)), '--', 'Color', [0.45 0.45 0.45], 'LineWidth', 1);
names = {'Pareto front (filled)'};
for j = 1:numel(known)
    i = known(j);
    if ~isnan(low(i))
        plot([cost(i) cost(i)], [low(i) high(i)], '-', 'Color', [0.65 0.65 0.65], 'LineWidth', 1);
    end
end
for j = 1:numel(known)
    i = known(j);
    [mark, size_] = mark_of(s.stages.role{i});
    handles{end + 1} = plot(cost(i), score(i), mark, 'MarkerSize', size_, 'LineWidth', 1.8, 'Color', palette(i)); %#ok<AGROW>
    if best(j)
        set(handles{end}, 'MarkerFaceColor', palette(i));
    end
    names{end + 1} = sprintf('%s, %s', s.stages.stage{i}, s.stages.runtime{i}); %#ok<AGROW>
end
hold off;
set(gca, 'XScale', 'log', 'XGrid', 'on', 'YGrid', 'on', 'Box', 'off');
spread_log_axis(cost(known));
spread = [score(known); low(known); high(known)];
spread = spread(~isnan(spread));
room = max(max(spread) - min(spread), 1e-3 * max(abs(spread)));
above = 0.08;
if with_legend
    above = 0.08 + 0.09 * numel(names);
end
ylim([min(spread) - 0.08 * room, max(spread) + above * room]);
if with_legend
    set(legend([handles{:}], names, 'Location', 'northeast'), 'Interpreter', 'none');
end
end

function best = front(cost, score, lower_is_better)
sign_ = 1;
if lower_is_better
    sign_ = -1;
end
best = true(size(cost));
for i = 1:numel(cost)
    % a few bytes of a manifest, a microsecond: costs within half a percent are told apart by the score
    better = cost <= 1.005 * cost(i) & sign_ * score >= sign_ * score(i) & (cost < cost(i) | sign_ * score > sign_ * score(i));
    best(i) = ~any(better);
end
end

function [mark, size_] = mark_of(role)
switch role
    case 'main'
        mark = 'o';
        size_ = 8;
    case 'control'
        mark = 's';
        size_ = 8;
    case 'reference'
        mark = 'd';
        size_ = 11;
    otherwise
        mark = '^';
        size_ = 11;
end
end

function spread_log_axis(values)
low = min(values) / 1.5;
high = max(values) * 1.5;
xlim([low high]);
steps = [1 2 5];
if high / low > 100
    steps = 1;
end
ticks = sort(reshape(steps' * 10 .^ (floor(log10(low)):ceil(log10(high))), 1, []));
ticks = ticks(ticks >= low & ticks <= high);
labels = cell(1, numel(ticks));
for i = 1:numel(ticks)
    labels{i} = short(ticks(i));
end
set(gca, 'XTick', ticks, 'XTickLabel', labels, 'XMinorTick', 'off', 'XMinorGrid', 'off');
end

function inches = draw_loss(s)
n = numel(s.history);
columns = min(n, 3);
rows = ceil(n / columns);
inches = [4.5 * columns, 4 * rows + 0.5];
for k = 1:n
    panel(inches, rows, columns, k, 0.8);
    fit = s.history(k);
    at = as_column(fit.epoch);
    if isempty(at)
        at = (1:max(numel(fit.loss_total), numel(fit.val_loss)))';
    end
    [handles, names] = loss_lines(fit, at);
    plain_title(training_title(fit, s.history));
    xlabel('epoch');
    ylabel('loss (nats)');
    set(gca, 'XGrid', 'on', 'YGrid', 'on', 'Box', 'off');
    if all(at == round(at)) && numel(at) <= 10
        set(gca, 'XTick', unique(at));
    end
    wide = max(at) - min(at);
    xlim([min(at) - 0.06 * wide - 0.05, max(at) + 0.06 * wide + 0.05]);
    if ~isempty(handles)
        set(legend([handles{:}], names, 'Location', 'northeast'), 'Interpreter', 'none');
    end
end
end

function [handles, names] = loss_lines(fit, at)
known = {'loss_total', 'training: total', '-o'; 'loss_label', 'training: labels', ':x'; ...
    'loss_soft', 'training: teacher''s answers', ':+'; 'val_loss', 'validation, on labels', '--s'};
handles = {};
names = {};
top = 0;
hold on;
for j = 1:size(known, 1)
    if ~isfield(fit, known{j, 1}) || numel(fit.(known{j, 1})) ~= numel(at)
        continue
    end
    values = as_column(fit.(known{j, 1}));
    if strcmp(known{j, 1}, 'loss_label') && isequaln(values, as_column(fit.loss_total))
        continue  % training on labels alone: the same line twice
    end
    handles{end + 1} = plot(at, values, known{j, 3}, 'Color', palette(j), 'LineWidth', 1.8, 'MarkerSize', 6); %#ok<AGROW>
    names{end + 1} = known{j, 2}; %#ok<AGROW>
    top = max(top, max(values));
end
top = top * (1.1 + 0.13 * (numel(names) + 1));
if top > 0
    ylim([0, top]);
    if ~isempty(fit.best_epoch)
        handles{end + 1} = plot([fit.best_epoch fit.best_epoch], [0 top], '-', 'Color', [0.6 0.6 0.6]);
        names{end + 1} = 'kept epoch';
    end
end
hold off;
end

function text = training_title(fit, history)
text = fit.stage;
if sum(strcmp({history.stage}, fit.stage)) > 1
    text = sprintf('%s, training %d', text, fit.training);
end
end

function inches = draw_confusion(s)
names = {s.confusion.matrices.stage};
shown = unique([find(strcmp(names, s.teacher_stage), 1), find(strcmp(names, s.final_stage), 1)]);
inches = [7.4 * numel(shown), 6.4];
for k = 1:numel(shown)
    panel(inches, 1, numel(shown), k, 1.75, 1);
    one = s.confusion.matrices(shown(k));
    draw_matrix(one.counts, s.confusion.labels);
    plain_title(sprintf('%s: %d of %d test samples right', one.stage, trace(one.counts), sum(one.counts(:))));
end
end

function draw_matrix(counts, labels)
n = size(counts, 1);
share = counts ./ max(sum(counts, 2) * ones(1, n), 1);
imagesc(share, [0 1]);
colormap(blues());
every = ceil(n / 25);
ticks = 1:every:n;
set(gca, 'XTick', ticks, 'YTick', ticks, 'TickLength', [0 0]);
name_rows(clipped(labels(ticks), 16, 'start'), ticks);
if n <= 20
    hold on;
    for i = 1:n
        for j = 1:n
            label(j, i, sprintf('%d', counts(i, j)), 'center', ink_on(share(i, j)));
        end
    end
    hold off;
end
text(0.5 - 0.31 * n, n / 2 + 0.5, 'label', 'Rotation', 90, 'HorizontalAlignment', 'center', 'FontSize', 10);
name_columns(labels(ticks), ticks, n);
bar_ = colorbar();
ylabel(bar_, 'share of the label''s samples');
end

function name_columns(names, at, n)
names = clipped(names, 14, 'start');
if max(cellfun('length', names)) * n <= 45
    turned = {'HorizontalAlignment', 'center'};
    shift = 0;
else
    turned = {'Rotation', 30, 'HorizontalAlignment', 'right'};
    shift = 0.2;
end
set(gca, 'XTickLabel', {});
for i = 1:numel(at)
    text(at(i) + shift, 0.5 + 1.025 * n, names{i}, 'FontSize', 9, 'Interpreter', 'none', turned{:});
end
text(n / 2 + 0.5, 0.5 + 1.135 * n, 'decided', 'HorizontalAlignment', 'center', 'FontSize', 10);
end

function name_rows(names, at)
% Octave takes tick labels for markup (a_b), and cannot turn them; other text it takes as it is.
set(gca, 'YTickLabel', {});
limits = get(gca, 'XLim');
for i = 1:numel(at)
    text(limits(1) - 0.015 * (limits(2) - limits(1)), at(i), names{i}, 'HorizontalAlignment', 'right', 'FontSize', 9, ...
        'Interpreter', 'none');
end
end

function ink = ink_on(shade)
ink = [0 0 0];
if shade > 0.55
    ink = [1 1 1];
end
end

function inches = draw_layers(s)
masked = ~isempty(s.masks.name);
units = ~isempty(s.layers.name) && ~isempty(s.layers.units);
cut = units && any(s.layers.is_cut);
panels = masked + units + cut;
tall = max([numel(s.layers.name) * units, numel(s.masks.name)]);
inches = [6.5 * max(panels, 1) + 1, min(max(5, 2 + 0.3 * tall), 24)];
at = 0;
if units
    at = at + 1;
    panel(inches, 1, panels, at, 1.8);
    draw_units(s.layers);
end
if cut
    at = at + 1;
    panel(inches, 1, panels, at, 1.8);
    some = find(~isnan(column(s.layers, 'units_after', numel(s.layers.name))));
    before = s.layers.units_before(some);
    after = s.layers.units_after(some);
    texts = arrayfun(@(a, b) sprintf('%d of %d', a, b), after, before, 'UniformOutput', false);
    draw_shares(s.layers.name(some), after ./ before * 100, texts);
    plain_title('Units that pruning kept');
    xlabel('percent of the units before');
end
if masked
    at = at + 1;
    panel(inches, 1, panels, at, 1.8);
    texts = arrayfun(@(z, w) sprintf('%s of %s', short(z), short(w)), s.masks.zeros, s.masks.weights, 'UniformOutput', false);
    draw_shares(s.masks.name, s.masks.sparsity * 100, texts);
    plain_title('Zero weights by layer');
    xlabel('percent of the layer''s weights');
end
end

function draw_units(layers)
units = layers.units;
[n, m] = size(units);
most = max(units, [], 2);
share = units ./ (most * ones(1, m)) * 100;
gone = isnan(share);
share(gone) = 0;
imagesc(share, [0 130]);
colormap(blues());
if n <= 60
    hold on;
    for i = 1:n
        for j = 1:m
            if gone(i, j)
                label(j, i, 'none', 'center', [0.5 0.5 0.5]);
            else
                label(j, i, sprintf('%d', units(i, j)), 'center', ink_on(share(i, j) / 130));
            end
        end
    end
    hold off;
end
every = ceil(n / 60);
set(gca, 'XTick', 1:m, 'XTickLabel', layers.stages, 'YTick', 1:every:n, 'TickLength', [0 0]);
name_rows(clipped(layers.name(1:every:n), 24, 'end'), 1:every:n);
plain_title('Units of each layer, by stage');
xlabel('shade: share of the widest stage''s units');
end

function draw_shares(names, share, texts)
n = numel(names);
every = ceil(n / 60);
lying(1:n, share, 0.7, final_color());
if n <= 60
    hold on;
    for i = 1:n
        label(share(i) + 1.5, i, texts{i}, 'left', [0 0 0]);
    end
    hold off;
end
set(gca, 'YTick', 1:every:n, 'YDir', 'reverse', 'XGrid', 'on', 'Box', 'off');
xlim([0 130]);
set(gca, 'XTick', 0:20:100);
name_rows(clipped(names(1:every:n), 24, 'end'), 1:every:n);
ylim([0.3, n + 0.7]);
end

function inches = draw_latency(s)
devices = unique(s.latency.device);
rows = numel(devices);
inches = [13, 5.2 * rows + 0.4];
for k = 1:rows
    on = find(strcmp(s.latency.device, devices{k}));
    names = s.latency.stage(on);
    panel(inches, rows, 2, 2 * k - 1, 0.9);
    draw_times(s.latency, on);
    plain_title(sprintf('Time of one answer, on %s', devices{k}));
    panel(inches, rows, 2, 2 * k, 1.3);
    faster = column(s.latency, 'speedup', numel(s.latency.stage));
    draw_faster(names, faster(on));
end
end

function draw_times(times, on)
total = numel(times.stage);
p50 = column(times, 'p50_ms', total);
p95 = column(times, 'p95_ms', total);
low = column(times, 'p50_low_ms', total);
high = column(times, 'p50_high_ms', total);
n = numel(on);
hold on;
bars(1) = upright((1:n) - 0.18, p50(on), teacher_color());
bars(2) = upright((1:n) + 0.18, p95(on), [0.65 0.65 0.65]);
whiskers((1:n) - 0.18, low(on), high(on));
top = max([p50(on); p95(on)]);
for i = 1:n
    label(i, max([p50(on(i)), p95(on(i))]) + 0.04 * top, short(p50(on(i))), 'center', [0 0 0]);
end
hold off;
names = cell(1, n);
for i = 1:n
    names{i} = times.stage{on(i)};
end
set(gca, 'XTick', 1:n, 'XTickLabel', names, 'YGrid', 'on', 'Box', 'off');
xlim([0.4, n + 0.6]);
ylim([0, top * 1.2]);
ylabel('ms, batch 1 (above the bars: p50)');
legend(bars, {'p50 (line: 10 to 90 % of rounds)', 'p95'}, 'Location', 'northeast');
end

function draw_faster(names, faster)
n = numel(names);
if all(isnan(faster))
    axis('off');
    label(0.1, 0.5, 'timed on another device than the teacher: no speed-up', 'left', [0 0 0]);
    return
end
lying(1:n, faster, 0.7, final_color());
hold on;
top = max(faster);
for i = 1:n
    if ~isnan(faster(i))
        label(faster(i) + 0.02 * top, i, sprintf('%sx', short(faster(i))), 'left', [0 0 0]);
    end
end
plot([1 1], [0.3, n + 0.7], 'k:');
hold off;
set(gca, 'YTick', 1:n, 'YTickLabel', names, 'YDir', 'reverse', 'XGrid', 'on', 'Box', 'off');
xlim([0, max(top * 1.25, 1.1)]);
ylim([0.3, n + 0.7]);
xlabel('times faster than the teacher (batch 1)');
plain_title('Speed-up');
end

% ------------------------------------------------------------------------------------------------- numbers and looks

function values = column(table, name, n)
% A column of numbers; NaN where the run has none of them.
if isfield(table, name)
    values = as_column(table.(name));
else
    values = NaN(n, 1);
end
end

function values = as_column(values)
if iscell(values)
    gaps = cellfun('isempty', values);
    values(gaps) = {NaN};
    values = cell2mat(values);
end
values = double(values(:));
end

function values = row_values(lines, name)
% [lines.name] would drop the lines without a number.
values = NaN(numel(lines), 1);
for i = 1:numel(lines)
    if ~isempty(lines(i).(name))
        values(i) = lines(i).(name);
    end
end
end

function text = short(value)
size_ = abs(value);
if isnan(value)
    text = '-';
elseif size_ >= 1e9
    text = sprintf('%.3g G', value / 1e9);
elseif size_ >= 1e6
    text = sprintf('%.3g M', value / 1e6);
elseif size_ >= 1e4
    text = sprintf('%.3g k', value / 1e3);
elseif size_ >= 100
    text = sprintf('%.0f', value);
else
    text = sprintf('%.3g', value);
end
end

function text = amount(value, unit)
switch unit
    case 'count'
        text = short(value);
    case {'share', 'ratio', 'perplexity', 'points', 'bits'}
        text = sprintf('%s', short(value));
    case 'percent'
        text = sprintf('%s %%', short(value));
    otherwise
        text = regexprep(sprintf('%s %s', short(value), unit), ' ([GMk]) FLOP', ' $1FLOP');
end
if isnan(value)
    text = 'not available';
end
end

function label(x, y, text_, where, ink)
text(x, y, text_, 'HorizontalAlignment', where, 'VerticalAlignment', 'middle', 'FontSize', 9, 'Color', ink, ...
    'Interpreter', 'none');
end

function plain_title(text_, axes_)
if nargin < 2
    axes_ = gca();
end
title(axes_, text_, 'Interpreter', 'none', 'FontWeight', 'bold', 'FontSize', 11);
end

function names = clipped(names, most, kept)
for i = 1:numel(names)
    starts = 1:numel(names{i});
    if is_octave()
        starts = find(double(names{i}) < 128 | double(names{i}) > 191);  % of letters; their other bytes are 128 to 191
    end
    if numel(starts) <= most
        continue
    elseif strcmp(kept, 'start')
        names{i} = [names{i}(1:starts(most - 1) - 1) '..'];
    else
        names{i} = ['..' names{i}(starts(end - most + 3):end)];
    end
end
end

function color = teacher_color()
color = [0 114 178] / 255;
end

function color = final_color()
color = [213 94 0] / 255;
end

function color = palette(i)
% Okabe and Ito: told apart by colour-blind readers too.
colors = [0 114 178; 213 94 0; 0 158 115; 204 121 167; 230 159 0; 86 180 233; 0 0 0] / 255;
color = colors(mod(i - 1, size(colors, 1)) + 1, :);
end

function map = blues()
ends = [255 255 255; 158 202 225; 33 113 181; 8 48 107] / 255;
map = interp1([0; 0.35; 0.75; 1], ends, linspace(0, 1, 64)');
end

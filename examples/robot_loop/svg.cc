#include "svg.h"

#include <cstdarg>
#include <map>

namespace {

constexpr double kScale = 60;  // pixels per metre
constexpr const char* kTripColors[] = {"#d1495b", "#2e7da6", "#3a7d44", "#8e5ea2", "#c77d0a", "#16827c",
                                       "#a14a76", "#5b6abf", "#7a6a2f", "#b5482a", "#4d7c8a", "#6b705c"};

__attribute__((format(printf, 2, 3))) void Add(std::string* out, const char* format, ...) {
  char text[1024];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  *out += text;
}

std::string Escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '_')
      out += ' ';
    else
      out += c;
  }
  return out;
}

std::string Begin(int width, int height) {
  std::string out;
  Add(&out,
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" "
      "font-family=\"sans-serif\">\n",
      width, height, width, height);
  Add(&out, "<rect width=\"%d\" height=\"%d\" fill=\"#ffffff\"/>\n", width, height);
  return out;
}

void Label(std::string* out, double x, double y, double size, const char* color, const std::string& text,
           const char* anchor = "middle") {
  Add(out,
      "<text x=\"%.1f\" y=\"%.1f\" font-size=\"%.0f\" fill=\"%s\" text-anchor=\"%s\" stroke=\"#ffffff\" "
      "stroke-width=\"2\" stroke-opacity=\"0.7\" paint-order=\"stroke\">%s</text>\n",
      x, y, size, color, anchor, Escaped(text).c_str());
}

void Line(std::string* out, const Segment& s, const char* color, double width, const char* more = "") {
  Add(out,
      "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\" stroke-width=\"%.1f\" "
      "stroke-linecap=\"round\"%s/>\n",
      s.a.x * kScale, s.a.y * kScale, s.b.x * kScale, s.b.y * kScale, color, width, more);
}

const char* Fill(const std::string& color) {
  static const std::map<std::string, const char*> kColors = {
      {"red", "#d62828"},    {"blue", "#2867d6"},   {"green", "#3aa655"},
      {"yellow", "#f2c12e"}, {"black", "#333333"},  {"white", "#fafafa"},
      {"orange", "#f08a24"}, {"purple", "#8e5ea2"}, {"gray", "#8d99ae"}};
  const auto found = kColors.find(color);
  return found == kColors.end() ? "#c9b79c" : found->second;
}

void DrawHouse(const World& world, std::string* out) {
  constexpr const char* kFloors[] = {"#fdf3e3", "#eef4ea", "#eaf0f8", "#f4f1ee",
                                     "#f3edf7", "#e6f4f4", "#f6f2e4", "#eeeeee"};
  for (size_t i = 0; i < world.rooms.size(); ++i) {
    const Rect& r = world.rooms[i].area;
    Add(out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\"/>\n", r.x0 * kScale,
        r.y0 * kScale, (r.x1 - r.x0) * kScale, (r.y1 - r.y0) * kScale, kFloors[i % std::size(kFloors)]);
  }
  for (const Fixture& f : world.fixtures) {
    if (!f.solid) {
      const bool light = f.name == "light" || f.name == "lamp";
      if (light)
        Add(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"5\" fill=\"%s\" stroke=\"#b8a77a\"/>\n",
            f.area.Center().x * kScale, f.area.Center().y * kScale, f.on ? "#ffe27a" : "#777777");
      continue;
    }
    Add(out,
        "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"4\" fill=\"#d9c9ae\" "
        "stroke=\"#b39f7c\"/>\n",
        f.area.x0 * kScale, f.area.y0 * kScale, (f.area.x1 - f.area.x0) * kScale,
        (f.area.y1 - f.area.y0) * kScale);
    Label(out, f.area.Center().x * kScale, f.area.y1 * kScale - 4, 10, "#6b5b3e", f.name);
  }
  for (const Room& room : world.rooms) {
    const bool hall = room.name == "hallway";
    Label(out, (hall ? 1.0 : room.area.Center().x) * kScale,
          (hall               ? 4.6
           : room.area.y0 < 1 ? room.area.y1 - 0.25
                              : room.area.y0 + 0.45) *
              kScale,
          15, "#9a938a", room.name);
  }
  for (const Segment& wall : world.walls) Line(out, wall, "#3d3a36", 6);
  for (const Door& door : world.doors)
    Line(out, door.gap,
         door.locked ? "#a4161a"
         : door.open ? "#a7c4a0"
                     : "#9c6644",
         4, door.open ? " stroke-dasharray=\"2 7\"" : "");
}

void DrawThings(const World& world, std::string* out) {
  for (const Thing& thing : world.things) {
    if (Distance(thing.at, thing.start) > 0.3)
      Add(out,
          "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"6\" fill=\"none\" stroke=\"%s\" stroke-dasharray=\"2 2\"/>\n",
          thing.start.x * kScale, thing.start.y * kScale, Fill(thing.color));
    Add(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"6\" fill=\"%s\" stroke=\"#555555\" stroke-width=\"0.8\"/>\n",
        thing.at.x * kScale, thing.at.y * kScale, Fill(thing.color));
    if (thing.carried) continue;
    Label(out, thing.at.x * kScale + 8, thing.at.y * kScale + 3, 9, "#444444", thing.name, "start");
  }
  for (const Person& person : world.people) {
    Add(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%d\" fill=\"%s\" stroke=\"#333333\"/>\n",
        person.at.x * kScale, person.at.y * kScale, person.pet ? 8 : 13, person.pet ? "#c08552" : "#f4d1ae");
    Label(out, person.at.x * kScale, person.at.y * kScale + 26, 11, "#222222",
          person.name == "user" ? "you" : person.name);
  }
}

}  // namespace

std::string DrawWorld(const World& world, Point robot, double heading, const std::vector<Trip>& trips) {
  const double margin = 20, legend = 20 + 20 * static_cast<double>(trips.size());
  const int width = static_cast<int>((world.bounds.x1 - world.bounds.x0) * kScale + 2 * margin);
  const int height = static_cast<int>((world.bounds.y1 - world.bounds.y0) * kScale + 2 * margin + legend);
  std::string out = Begin(width, height);
  Add(&out, "<g transform=\"translate(%.0f %.0f)\">\n", margin, margin);
  DrawHouse(world, &out);
  for (size_t i = 0; i < trips.size(); ++i) {
    if (trips[i].path.size() < 2) continue;
    Add(&out,
        "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2.5\" stroke-linejoin=\"round\" opacity=\"0.85\" "
        "points=\"",
        kTripColors[i % std::size(kTripColors)]);
    for (const Point p : trips[i].path) Add(&out, "%.1f,%.1f ", p.x * kScale, p.y * kScale);
    out += "\"/>\n";
  }
  DrawThings(world, &out);
  Add(&out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"20\" height=\"8\" fill=\"#3aa655\"/>\n",
      world.charger.x * kScale - 10, world.charger.y * kScale - 24);
  Add(&out,
      "<g transform=\"translate(%.1f %.1f) rotate(%.1f)\"><circle r=\"14\" fill=\"#26547c\" stroke=\"#0b2545\" "
      "stroke-width=\"2\"/>"
      "<path d=\"M 2 -7 L 13 0 L 2 7 Z\" fill=\"#ffffff\"/></g>\n",
      robot.x * kScale, robot.y * kScale, heading * 180 / std::numbers::pi);
  const double top = (world.bounds.y1 - world.bounds.y0) * kScale + 26;
  for (size_t i = 0; i < trips.size(); ++i) {
    const double y = top + 20 * static_cast<double>(i);
    Add(&out, "<line x1=\"0\" y1=\"%.1f\" x2=\"26\" y2=\"%.1f\" stroke=\"%s\" stroke-width=\"4\"/>\n", y, y,
        kTripColors[i % std::size(kTripColors)]);
    Label(&out, 34, y + 5, 14, "#222222", trips[i].command, "start");
  }
  return out + "</g>\n</svg>\n";
}

namespace {

// Bars of a logarithmic time axis from 1 us to 100 ms; heights are logarithms of the counts.
void Panel(std::string* out, double top, const std::string& title, const std::vector<int64_t>& values,
           const char* color) {
  constexpr double kLeft = 70, kWidth = 700, kHeight = 120;
  const std::vector<size_t> bins = Histogram(values);
  Label(out, kLeft, top - 10, 14, "#222222", title, "start");
  const double decades = 5;  // of counts: up to 100 000
  for (int power = 0; power <= 4; ++power) {
    const double y = top + kHeight - kHeight * (power + 1) / decades;
    Add(out, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#e5e5e5\"/>\n", kLeft, y,
        kLeft + kWidth, y);
    Label(out, kLeft - 8, y + 4, 10, "#777777", std::to_string(static_cast<int>(std::pow(10, power))), "end");
  }
  for (int i = 0; i < kBins; ++i) {
    const size_t count = bins[static_cast<size_t>(i)];
    if (count == 0) continue;
    const double height = kHeight * (std::log10(static_cast<double>(count)) + 1) / decades;
    Add(out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\"/>\n",
        kLeft + kWidth * i / kBins + 0.5, top + kHeight - height, kWidth / kBins - 1, height, color);
  }
  const double deadline = kLeft + kWidth * 4 / 5;  // 10 ms
  Add(out,
      "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#d62828\" stroke-width=\"2\" "
      "stroke-dasharray=\"5 4\"/>\n",
      deadline, top - 4, deadline, top + kHeight);
  Add(out, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#444444\"/>\n", kLeft, top + kHeight,
      kLeft + kWidth, top + kHeight);
  for (int decade = 0; decade <= 5; ++decade) {
    constexpr const char* kNames[] = {"1 us", "10 us", "0.1 ms", "1 ms", "10 ms", "100 ms"};
    Label(out, kLeft + kWidth * decade / 5, top + kHeight + 15, 11, decade == 4 ? "#d62828" : "#555555",
          kNames[decade]);
  }
}

}  // namespace

std::string DrawHistogram(const TickLog& log) {
  std::string out = Begin(810, 740);
  const std::vector<Row> rows = log.Rows();
  const auto title = [](const char* what, const std::vector<int64_t>& v) {
    std::string text = what;
    Add(&text, ": %zu ticks, p50 %.2f, p99 %.2f, p99.9 %.2f, max %.2f ms", v.size(),
        static_cast<double>(Percentile(v, 0.5)) / 1e6, static_cast<double>(Percentile(v, 0.99)) / 1e6,
        static_cast<double>(Percentile(v, 0.999)) / 1e6, v.empty() ? 0 : static_cast<double>(v.back()) / 1e6);
    return text;
  };
  Panel(&out, 45, title("release to own work done, without inference", rows[4].without), rows[4].without,
        "#9aa5b1");
  Panel(&out, 225, title("release to own work done, with inference", rows[4].with), rows[4].with, "#2e7da6");
  Panel(&out, 405, title("whole tick, without inference", rows[2].without), rows[2].without, "#9aa5b1");
  Panel(&out, 585, title("whole tick (own work + poll), with inference", rows[2].with), rows[2].with,
        "#2e7da6");
  return out + "</svg>\n";
}
